//! Passwords of clients, and what one may do who has not given it.
//! R-numbers are the known faults of other proxies that must not happen here.

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Conn, Node, NodeOptions, Proxy, Version};
use std::time::Duration;

harness::on_full_matrix!(
    auth_and_ping_in_one_packet,
    a_wrong_password_is_one_error_for_one_client,
    limits_before_authentication,
);

/// A proxy that wants the password `secret`; the cluster is kept for it.
fn protected(version: Version) -> Result<(Cluster, Proxy)> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let options = Proxy::new(&cluster).environment("SLOTWAY_LISTENER_REQUIREPASS", "secret");
    let proxy = options.start()?;
    Ok((cluster, proxy))
}

/// [R7]
fn auth_and_ping_in_one_packet(version: Version) -> Result<()> {
    let (_cluster, proxy) = protected(version)?;
    let mut conn = proxy.conn()?;
    assert_eq!(
        conn.line("GET k")?.error(),
        Some("NOAUTH Authentication required.")
    );
    let commands = [
        vec!["AUTH", "secret"],
        vec!["PING"],
        vec!["SET", "k", "v"],
        vec!["GET", "k"],
    ];
    let replies = conn.pipeline(&commands)?;
    ensure!(replies[0].is_ok() && replies[2].is_ok());
    assert_eq!(replies[1].text()?, "PONG");
    assert_eq!(replies[3].text()?, "v");
    let mut hello = proxy.conn()?;
    let reply = hello.line("HELLO 3 AUTH default secret SETNAME me")?;
    assert_eq!(reply.field("proto").context("no proto")?.int()?, 3);
    assert_eq!(hello.must("CLIENT GETNAME")?.text()?, "me");
    assert_eq!(hello.must("GET k")?.text()?, "v");
    let mut inline = proxy.conn()?;
    inline.send_raw(b"AUTH \"secret\"\r\nPING\r\n")?;
    ensure!(inline.read()?.is_ok());
    assert_eq!(inline.read()?.text()?, "PONG");
    Ok(())
}

/// [R8]
fn a_wrong_password_is_one_error_for_one_client(version: Version) -> Result<()> {
    let (_cluster, proxy) = protected(version)?;
    let mut other = proxy.conn()?;
    ensure!(other.line("AUTH secret")?.is_ok());
    let mut conn = proxy.conn()?;
    ensure!(conn.line("AUTH secret")?.is_ok());
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    for _ in 0..50 {
        let commands = [
            vec!["SET", "mine", "1"],
            vec!["AUTH", "bad"],
            vec!["GET", "mine"],
            vec!["HELLO", "2", "AUTH", "default", "bad"],
            vec!["PING"],
        ];
        let replies = conn.pipeline(&commands)?;
        ensure!(replies[0].is_ok());
        assert_eq!(replies[1].error(), Some(wrong));
        assert_eq!(replies[2].text()?, "1");
        assert_eq!(replies[3].error(), Some(wrong));
        assert_eq!(replies[4].text()?, "PONG");
        assert_eq!(other.must("GET mine")?.text()?, "1");
    }
    Ok(())
}

/// [Y6]: what a stranger may send is small.
fn limits_before_authentication(version: Version) -> Result<()> {
    let (_cluster, proxy) = protected(version)?;
    let server = Node::launch(NodeOptions {
        version,
        cluster: false,
        relayed: false,
        settings: vec![("requirepass".to_owned(), "secret".to_owned())],
        address: None,
    });
    let mut server = server?;
    server.wait_started()?;
    for bytes in [
        b"*11\r\n$3\r\nGET\r\n".as_slice(),
        b"*2\r\n$3\r\nGET\r\n$16385\r\n",
    ] {
        let answer = |mut conn: Conn| -> Result<Vec<u8>> {
            conn.set_timeout(Duration::from_secs(5))?;
            conn.send_raw(bytes)?;
            conn.read_to_close()
        };
        let (expected, actual) = (answer(server.conn()?)?, answer(proxy.conn()?)?);
        assert_eq!(
            actual.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
    Ok(())
}
