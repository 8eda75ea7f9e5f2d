//! One client that pipelines without end: it writes everything before it reads, or reads while it writes.

use super::target::Target;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Bytes written or read at once.
const PIECE: usize = 64 << 10;
/// Keys of one connection.
const KEYS: usize = 1_000;

/// Pipelines so many commands. Straight to the nodes it is one client for each, with its share of the commands.
pub(super) fn pipeline(target: &Target, commands: usize, read_at_once: bool) -> Result<String> {
    let parts = target.addresses().len();
    std::thread::scope(|scope| -> Result<()> {
        let spawn = |part| {
            let names = names(target, part);
            scope.spawn(move || one(target, names, commands / parts, read_at_once))
        };
        let threads: Vec<_> = (0..parts).map(spawn).collect();
        let mut joined = threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a client panicked")?);
        joined.try_for_each(|result| result)
    })?;
    Ok(format!("{commands} commands"))
}

/// Keys served by one address.
fn names(target: &Target, part: usize) -> Vec<String> {
    let names = (0_u32..).map(|n| format!("p:{n}"));
    names
        .filter(|name| target.place_of(name) == part)
        .take(KEYS)
        .collect()
}

fn one(target: &Target, names: Vec<String>, count: usize, read_at_once: bool) -> Result<()> {
    let mut stream = target.connect_for(&names[0], 0)?;
    let mut reading = stream.try_clone()?;
    if !read_at_once {
        write(&mut stream, &names, count)?;
        return read(&mut reading, &names, count);
    }
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(&mut stream, &names, count));
        read(&mut reading, &names, count)?;
        writing.join().ok().context("the writing client panicked")?
    })
}

fn value(name: &str) -> String {
    format!("{name} has this")
}

fn write(stream: &mut TcpStream, names: &[String], count: usize) -> Result<()> {
    let mut piece = Vec::with_capacity(2 * PIECE);
    for n in 0..count {
        let name = &names[n / 2 % names.len()];
        if n.is_multiple_of(2) {
            let value = value(name);
            write!(
                piece,
                "*3\r\n$3\r\nSET\r\n${}\r\n{name}\r\n${}\r\n{value}\r\n",
                name.len(),
                value.len()
            )?;
        } else {
            write!(piece, "*2\r\n$3\r\nGET\r\n${}\r\n{name}\r\n", name.len())?;
        }
        if piece.len() >= PIECE {
            stream.write_all(&piece)?;
            piece.clear();
        }
    }
    Ok(stream.write_all(&piece)?)
}

/// Reads the replies to all commands and compares them with what they must be.
fn read(stream: &mut TcpStream, names: &[String], count: usize) -> Result<()> {
    let mut scratch = vec![0; PIECE];
    let mut expected: Vec<u8> = Vec::with_capacity(2 * PIECE);
    let mut n = 0;
    loop {
        while n < count && expected.len() < PIECE {
            if n.is_multiple_of(2) {
                expected.extend_from_slice(b"+OK\r\n");
            } else {
                let value = value(&names[n / 2 % names.len()]);
                write!(expected, "${}\r\n{value}\r\n", value.len())?;
            }
            n += 1;
        }
        if expected.is_empty() {
            return Ok(());
        }
        let read = stream
            .read(&mut scratch)
            .with_context(|| format!("about reply {n}"))?;
        ensure!(read > 0, "disconnected about reply {n}");
        ensure!(
            expected.starts_with(&scratch[..read]),
            "a wrong reply about reply {n}"
        );
        expected.drain(..read);
    }
}
