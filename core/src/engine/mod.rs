//! One worker's request path: sessions, node links and the requests between them.
