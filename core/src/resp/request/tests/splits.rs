//! However a stream is cut into reads, the same requests come out of it.

use proptest::prelude::*;

use super::*;

/// A request and what it is decoded to.
fn any_request() -> impl Strategy<Value = (Vec<u8>, Event)> {
    let args = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12);
    prop_oneof![
        8 => args.prop_map(|args| {
            let mut bytes = Vec::new();
            write::command(&mut bytes, &args.iter().map(Vec::as_slice).collect::<Vec<_>>());
            (bytes, Event::Command(args))
        }),
        2 => "[A-Za-z][ -~]{0,40}".prop_map(|line| (format!("{line}\r\n").into_bytes(), Event::Inline(line.into_bytes()))),
        1 => prop::sample::select(vec![&b"\r\n"[..], b"\n", b"*0\r\n", b"*-1\r\n"]).prop_map(|bytes| (bytes.to_vec(), Event::Skip)),
    ]
}

/// Bytes that get past the first byte more often than random ones.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"*1\r\n".to_vec()),
        Just(b"*2\r\n$1\r\n".to_vec()),
        Just(b"$3\r\n".to_vec()),
        prop::sample::select(b"*$0123456789-\r\n\0x\"' ".to_vec()).prop_map(|byte| vec![byte]),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn any_split_of_a_valid_stream_gives_the_same_requests(
        requests in prop::collection::vec(any_request(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut expected: Vec<Event> = requests.into_iter().map(|(_, event)| event).collect();
        expected.push(Event::Rest(0));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(events(&stream, &cuts, &RequestLimits::DEFAULT), expected);
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same_outcome(
        stream in likely_bytes(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let limits = RequestLimits { max_args: 12, max_bulk_bytes: 40, max_inline_bytes: 30, max_request_bytes: 60, authenticated: true };
        for limits in [limits, limits.unauthenticated()] {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(events(&stream, &cuts, &limits), events(&stream, &[], &limits));
        }
    }

    #[test]
    fn an_inline_request_becomes_a_canonical_one(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut out = b"before".to_vec();
        match inline_to_resp(&line, &mut out) {
            Ok(0) | Err(_) => prop_assert_eq!(out, b"before"),
            Ok(argc) => match &whole(&out[6..])[..] {
                [Event::Command(args), Event::Rest(0)] => prop_assert_eq!(args.len(), argc),
                other => prop_assert!(false, "{:?}", other),
            },
        }
    }
}
