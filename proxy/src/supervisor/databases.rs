//! How many numbered databases a server has: found out by trying, which needs no right to CONFIG and gives the server's own words for
//! a number that it has not. A number is tried once for each start of a server.

use std::io;

use slotway_core::local::Databases;

use crate::question::Questioner;

/// What every server says of a number that is too high, for one that has more databases than are used.
const OUT_OF_RANGE: &str = "ERR DB index is out of range";

/// Asks the server; `None` if its answers are about something else.
pub(super) async fn count(link: &mut Questioner) -> io::Result<Option<Databases>> {
    let (mut highest, mut refused, mut refusal) = (0, Databases::MOST, OUT_OF_RANGE.into());
    let mut number = 1;
    while refused - highest > 1 {
        match link.ask(&["SELECT", &number.to_string()]).await? {
            Ok(_) => highest = number,
            Err(text) if text.starts_with("ERR") || text.starts_with("NOPERM") => {
                refused = number;
                refusal = text.into();
            }
            Err(_) => return Ok(None),
        }
        number = if refused == Databases::MOST && highest * 2 < refused {
            highest * 2
        } else {
            highest.midpoint(refused)
        };
    }
    link.ask(&["SELECT", "0"]).await?.ok();
    Ok(Some(Databases {
        count: refused,
        refusal,
    }))
}

/// What all of them have.
pub(super) fn fewest<'d>(of: impl Iterator<Item = &'d Databases>) -> Option<Databases> {
    of.min_by_key(|databases| databases.count).cloned()
}

#[cfg(test)]
mod tests {
    use slotway_core::topology::Address;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What is found out of a server with `count` databases, and how many questions that took.
    async fn found(databases: u32, words: &'static str) -> (Option<Databases>, u32) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut asked, mut request) = (0, vec![0; 256]);
            loop {
                let length = stream.read(&mut request).await.unwrap();
                if length == 0 {
                    return asked;
                }
                asked += 1;
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let number = text.trim_end().rsplit("\r\n").next().unwrap();
                let reply = if number.parse::<u32>().unwrap() < databases {
                    "+OK\r\n".to_owned()
                } else {
                    format!("-{words}\r\n")
                };
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        };
        let asking = async {
            let address = Address::new("127.0.0.1", port);
            let mut link = Questioner::connect(&address).await.unwrap();
            count(&mut link).await.unwrap()
        };
        let (asked, found) = tokio::join!(server, asking);
        (found, asked)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_number_is_found_by_trying_n21() {
        for databases in [1, 2, 3, 4, 15, 16, 17, 1000, 65_535, 65_536] {
            let (found, _) = found(databases, OUT_OF_RANGE).await;
            assert_eq!(found.map(|found| found.count), Some(databases));
        }
        let (more, asked) = found(1_000_000, OUT_OF_RANGE).await;
        assert_eq!(more.map(|found| found.count), Some(Databases::MOST));
        assert!(asked <= 40);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_server_with_one_is_asked_once_and_quoted_n22() {
        let words = "ERR SELECT is not allowed in cluster mode";
        let (found, asked) = found(1, words).await;
        assert_eq!(found, Some(Databases::default()));
        assert_eq!(asked, 2, "and asked back to the first");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn other_errors_tell_nothing() {
        assert_eq!(found(1, "LOADING").await.0, None);
    }
}
