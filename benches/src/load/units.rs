//! Units of three commands on one key, with or without MULTI and EXEC around them: what a transaction costs. redis-benchmark cannot
//! ask for that.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::generator::Seen;
use super::probe::{STRIDE, connect};
use super::statistics::at_percent;
use super::workloads::{Unit, Values};

/// Connections, each with one unit under way.
pub(super) const CLIENTS: usize = 16;

/// Asks for so many units in all. Of every client one is written, in one piece, before the first reply is read.
pub(super) fn run(
    address: SocketAddrV4,
    values: &Values,
    unit: Unit,
    requests: usize,
) -> Result<Seen> {
    let mut streams = (0..CLIENTS)
        .map(|_| connect(address))
        .collect::<Result<Vec<TcpStream>>>()?;
    let value = values.value();
    let expected = replies(unit, &value);
    let mut reply = vec![0; expected.len()];
    let rounds = requests.div_ceil(CLIENTS);
    let mut times = Vec::with_capacity(rounds * CLIENTS);
    let began = Instant::now();
    for round in 0..rounds {
        let asked = Instant::now();
        for (n, stream) in streams.iter_mut().enumerate() {
            let key = values.key((round * CLIENTS + n) * STRIDE % values.keys);
            stream.write_all(&commands(unit, &key, &value))?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut reply)?;
            times.push(asked.elapsed());
            ensure!(reply == expected, "a wrong reply in round {round}");
        }
    }
    let took = began.elapsed();
    times.sort_unstable();
    let milliseconds = |percent| at_percent(&times, percent).as_secs_f64() * 1e3;
    Ok(Seen {
        per_second: times.len() as f64 / took.as_secs_f64(),
        p50_ms: milliseconds(50),
        p99_ms: milliseconds(99),
    })
}

fn commands(unit: Unit, key: &str, value: &str) -> Vec<u8> {
    let three = [&["GET", key][..], &["SET", key, value], &["GET", key]];
    let (before, after): (&[&[&str]], &[&[&str]]) = match unit {
        Unit::Commands => (&[], &[]),
        Unit::Transaction => (&[&["MULTI"]], &[&["EXEC"]]),
    };
    let all = before.iter().chain(&three).chain(after);
    all.flat_map(|words| harness::encode(words)).collect()
}

fn replies(unit: Unit, value: &str) -> Vec<u8> {
    let bulk = format!("${}\r\n{value}\r\n", value.len());
    let three = format!("{bulk}+OK\r\n{bulk}");
    match unit {
        Unit::Commands => three.into_bytes(),
        Unit::Transaction => {
            format!("+OK\r\n{}*3\r\n{three}", "+QUEUED\r\n".repeat(3)).into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_the_same_three_commands_between_two_others() {
        let three = commands(Unit::Commands, "k", "v");
        let expected = [
            harness::encode(&["MULTI"]),
            three,
            harness::encode(&["EXEC"]),
        ];
        assert_eq!(commands(Unit::Transaction, "k", "v"), expected.concat());
        assert_eq!(
            replies(Unit::Transaction, "v"),
            b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$1\r\nv\r\n+OK\r\n$1\r\nv\r\n"
        );
    }
}
