//! How much a client may send.

/// What a client may send. The numbers are those of the servers [Y6].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Most arguments of one request.
    pub max_args: u32,
    /// Longest argument in bytes.
    pub max_bulk_bytes: u32,
    /// Longest inline request, and longest header line, in bytes.
    pub max_inline_bytes: u32,
    /// Longest request in bytes, headers included.
    pub max_request_bytes: u32,
    /// Whether the client has authenticated; only the wording of the errors depends on it.
    pub authenticated: bool,
}

impl RequestLimits {
    /// For an authenticated client, with the servers' default configuration.
    pub const DEFAULT: Self = Self {
        max_args: 1_048_576,
        max_bulk_bytes: 512 << 20,
        max_inline_bytes: 64 << 10,
        max_request_bytes: 1 << 30,
        authenticated: true,
    };

    /// For a client that still has to authenticate: enough for `AUTH` and `HELLO`, too little to fill memory with.
    pub const UNAUTHENTICATED: Self = Self::DEFAULT.unauthenticated();

    /// These limits, reduced to what a client may send before it has authenticated.
    #[must_use]
    pub const fn unauthenticated(self) -> Self {
        const MAX_ARGS: u32 = 10;
        const MAX_BULK_BYTES: u32 = 16_384;
        const MAX_REQUEST_BYTES: u32 = 256 << 10;
        Self {
            max_args: if self.max_args < MAX_ARGS {
                self.max_args
            } else {
                MAX_ARGS
            },
            max_bulk_bytes: if self.max_bulk_bytes < MAX_BULK_BYTES {
                self.max_bulk_bytes
            } else {
                MAX_BULK_BYTES
            },
            max_inline_bytes: self.max_inline_bytes,
            max_request_bytes: if self.max_request_bytes < MAX_REQUEST_BYTES {
                self.max_request_bytes
            } else {
                MAX_REQUEST_BYTES
            },
            authenticated: false,
        }
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
