//! How long a blocking call waits: where its arguments say so, and the same call with less time [B4].
//!
//! Seconds, whole or not, as the last argument or before the number of keys; milliseconds behind `BLOCK`. 0 is for ever.

use std::time::Duration;

use super::keys::block_at;
use super::{KeyRule, Spec, id};
use crate::resp::{Args, write};

/// Servers let no call wait less, but for ever.
const SHORTEST: Duration = Duration::from_millis(1);

/// The argument that says how long a call waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Seconds(usize),
    Milliseconds(usize),
}

fn place(spec: &Spec, args: Args<'_>) -> Option<Place> {
    match spec.id {
        _ if spec.rule == KeyRule::Streams => block_at(args).map(Place::Milliseconds),
        id::BLMPOP | id::BZMPOP => Some(Place::Seconds(1)),
        id::WAIT => Some(Place::Milliseconds(2)),
        id::WAITAOF => Some(Place::Milliseconds(3)),
        _ => args.len().checked_sub(1).map(Place::Seconds),
    }
}

/// How long a blocking call waits; `None` if that is for ever, or what it says is for the server to refuse.
#[must_use]
pub fn timeout(spec: &Spec, args: Args<'_>) -> Option<Duration> {
    let limit = match place(spec, args)? {
        Place::Seconds(at) => {
            let seconds: f64 = text(args, at)?.parse().ok()?;
            let limit = Duration::try_from_secs_f64(seconds).ok()?;
            // Servers round up.
            if seconds > 0.0 {
                limit.max(SHORTEST)
            } else {
                limit
            }
        }
        Place::Milliseconds(at) => Duration::from_millis(text(args, at)?.parse().ok()?),
    };
    (!limit.is_zero()).then_some(limit)
}

/// Appends the call as it is, but for its waiting only as long as `left`, at least a millisecond: 0 would be for ever.
pub fn write_with_timeout(spec: &Spec, args: Args<'_>, left: Duration, out: &mut Vec<u8>) {
    let milliseconds = left.as_micros().div_ceil(1000).max(1);
    let (at, text) = match place(spec, args) {
        Some(Place::Seconds(at)) => (
            at,
            format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000),
        ),
        Some(Place::Milliseconds(at)) => (at, milliseconds.to_string()),
        None => (0, String::new()),
    };
    let mut words: Vec<&[u8]> = args.iter().collect();
    if let Some(word) = words.get_mut(at).filter(|_| at > 0) {
        *word = text.as_bytes();
    }
    write::command(out, &words);
}

fn text(args: Args<'_>, at: usize) -> Option<&str> {
    std::str::from_utf8(args.get(at)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::find;
    use crate::resp::{DecodeStep, RequestDecoder, RequestLimits};

    fn with<T>(call: &str, look: impl FnOnce(&Spec, Args<'_>) -> T) -> T {
        let words: Vec<&[u8]> = call.split(' ').map(str::as_bytes).collect();
        let mut raw = Vec::new();
        write::command(&mut raw, &words);
        let mut decoder = RequestDecoder::default();
        let step = decoder.decode(&raw, &RequestLimits::DEFAULT);
        assert!(matches!(step, Ok(DecodeStep::Command { .. })));
        let spec = find(words[0]).expect("a command");
        look(spec, Args::new(&raw, decoder.ranges()))
    }

    fn with_left(call: &str, left: Duration) -> String {
        with(call, |spec, args| {
            let mut out = Vec::new();
            write_with_timeout(spec, args, left, &mut out);
            let mut decoder = RequestDecoder::default();
            let step = decoder.decode(&out, &RequestLimits::DEFAULT);
            assert!(matches!(step, Ok(DecodeStep::Command { .. })));
            let args = Args::new(&out, decoder.ranges());
            let words: Vec<&str> = args
                .iter()
                .map(|word| std::str::from_utf8(word).unwrap())
                .collect();
            words.join(" ")
        })
    }

    #[test]
    fn each_command_says_how_long_at_its_own_place_b4() {
        for (call, milliseconds) in [
            ("blpop a b 5", Some(5000)),
            ("brpop a 0.25", Some(250)),
            ("brpop a 1e-7", Some(1)),
            ("brpop a 1e-20", Some(1)),
            ("bzpopmin a 1e1", Some(10_000)),
            ("bzpopmax a 3", Some(3000)),
            ("brpoplpush a b 7", Some(7000)),
            ("blmove a b LEFT RIGHT 2.5", Some(2500)),
            ("blmpop 4 1 a LEFT", Some(4000)),
            ("bzmpop 4 2 9 8 MIN COUNT 7", Some(4000)),
            ("xread COUNT 3 BLOCK 40 STREAMS BLOCK 9", Some(40)),
            ("xread block 1 BLOCK 2 STREAMS a $", Some(2)),
            (
                "xreadgroup GROUP BLOCK 9 NOACK BLOCK 50 STREAMS a >",
                Some(50),
            ),
            ("blpop a 0", None),
            ("xread BLOCK 0 STREAMS a $", None),
            ("blpop a -1", None),
            ("blpop a soon", None),
            ("blpop a nan", None),
            ("blpop a inf", None),
            ("blpop a 1e300", None),
            ("xread BLOCK 0.5 STREAMS a $", None),
            ("xread BLOCK -1 STREAMS a $", None),
            ("xread STREAMS a 0", None),
        ] {
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(with(call, timeout), expected, "{call}");
        }
    }

    #[test]
    fn a_call_with_less_time_is_the_same_but_for_that_b4() {
        let left = Duration::from_micros(61_041_001);
        for (call, expected) in [
            ("blpop a b 75", "blpop a b 61.042"),
            ("blmove a 75 LEFT RIGHT 75", "blmove a 75 LEFT RIGHT 61.042"),
            ("BLMPOP 75 1 75 LEFT", "BLMPOP 61.042 1 75 LEFT"),
            (
                "xread BLOCK 75000 STREAMS BLOCK 75000",
                "xread BLOCK 61042 STREAMS BLOCK 75000",
            ),
        ] {
            assert_eq!(with_left(call, left), expected);
        }
    }

    #[test]
    fn no_time_left_is_not_for_ever_b4() {
        assert_eq!(with_left("blpop a 5", Duration::ZERO), "blpop a 0.001");
        let xread = with_left("xread BLOCK 5 STREAMS a 0", Duration::ZERO);
        assert_eq!(xread, "xread BLOCK 1 STREAMS a 0");
    }
}
