//! What CLIENT answers about tracking, beside what a server does.

use anyhow::Result;
use harness::{Conn, Node, Proxy, Reply, Version};

use super::{TRACKING, is_quiet, scene, told, told_of};

harness::on_full_matrix!(
    all_answers_are_those_of_a_server,
    one_server_tells_of_its_databases,
);
harness::on_release!(
    redis_8_2,
    Redis82,
    all_answers_are_those_of_a_server,
    one_server_tells_of_its_databases,
);

/// What is asked of the proxy and of one server: the same answers.
const ASKED: &[&str] = &[
    "CLIENT CACHING YES",
    "CLIENT CACHING FOO",
    "CLIENT TRACKING FOO",
    "CLIENT TRACKING ON REDIRECT 999999",
    "CLIENT TRACKING ON REDIRECT x",
    "CLIENT TRACKING ON REDIRECT -4",
    "CLIENT TRACKING ON REDIRECT",
    "CLIENT TRACKING ON PREFIX a",
    "CLIENT TRACKING ON OPTIN OPTOUT",
    "CLIENT TRACKING ON BCAST OPTIN",
    "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab",
    "CLIENT TRACKING ON BCAST PREFIX a PREFIX a",
    "CLIENT TRACKING FOO REDIRECT 999999",
    "CLIENT TRACKING OFF PREFIX a",
    "CLIENT TRACKING ON",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT CACHING YES",
    "CLIENT CACHING NO",
    "CLIENT CACHING FOO",
    "CLIENT TRACKING ON BCAST",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT TRACKING ON OPTOUT",
    "CLIENT CACHING YES",
    "CLIENT TRACKINGINFO",
    "CLIENT ID",
    "CLIENT TRACKINGINFO",
    "GET k",
    "CLIENT TRACKINGINFO",
    "CLIENT CACHING YES",
    "GET",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON NOLOOP",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKING ON BCAST PREFIX b",
    "CLIENT TRACKING ON BCAST PREFIX b",
    "CLIENT TRACKING ON BCAST PREFIX c PREFIX bb",
    "CLIENT TRACKING ON BCAST PREFIX c",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON BCAST",
    "CLIENT TRACKING ON BCAST PREFIX d OPTIN OPTOUT",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON OPTOUT NOLOOP",
    "CLIENT CACHING NO",
    "CLIENT TRACKINGINFO",
    "PING",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "RESET",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
];

fn all_answers_are_those_of_a_server(version: Version) -> Result<()> {
    let (_cluster, proxy) = scene(version, 0)?;
    let server = Node::standalone(version)?;
    let conns = [
        (proxy.conn()?, server.conn()?),
        (proxy.conn_resp3()?, Conn::open_resp3(server.address())?),
    ];
    for (mut conn, mut there) in conns {
        for command in ASKED {
            let (mut ours, theirs) = (conn.line(command)?, there.line(command)?);
            // The connections are others when the options are: what was read over the old ones is to be forgotten.
            while matches!(ours, Reply::Push(_)) {
                ours = conn.read()?;
            }
            if *command != "CLIENT ID" {
                assert_eq!(ours, theirs, "{command}");
            }
        }
    }
    Ok(())
}

/// [N2] [N21] Behind the proxy is one server, and the client goes from one database to another.
fn one_server_tells_of_its_databases(version: Version) -> Result<()> {
    let server = Node::standalone(version)?;
    let address = server.address().to_string();
    let proxy = Proxy::with_server(&address).config(TRACKING).start()?;
    let mut other = proxy.conn()?;
    other.must("SELECT 3")?;
    let mut hears = proxy.conn()?;
    let id = hears.must("CLIENT ID")?.int()?.to_string();
    hears.must("SUBSCRIBE __redis__:invalidate")?;
    let mut resp2 = proxy.conn()?;
    let on = ["CLIENT", "TRACKING", "ON", "REDIRECT", &id];
    assert!(resp2.call(&on)?.is_ok());
    let mut conn = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON")?;
    for client in [&mut conn, &mut resp2] {
        client.must("GET k")?;
        assert!(client.must("SELECT 3")?.is_ok());
    }
    // What it has read in the other database nobody tells of any more.
    assert_eq!(told(&mut conn)?, [""; 0]);
    assert_eq!(hears.read()?.items()?[2], Reply::Nil);
    for value in ["1", "2"] {
        for client in [&mut conn, &mut resp2] {
            client.must("GET k")?;
        }
        other.call(&["SET", "k", value])?;
        told_of(&mut conn, &["k"])?;
        assert_eq!(hears.read()?.items()?[2].texts()?, ["k"]);
    }
    for client in [&mut conn, &mut resp2] {
        assert_eq!(client.must("GET k")?.text()?, "2");
    }
    is_quiet(&mut conn)?;
    let mut conn = proxy.conn_resp3()?;
    conn.must("CLIENT TRACKING ON BCAST PREFIX a")?;
    other.must("MSET a1 1 b 1 a2 1")?;
    told_of(&mut conn, &["a1", "a2"])?;
    is_quiet(&mut conn)?;
    let mut node = server.conn()?;
    let lines = node.must("CLIENT LIST")?.text()?;
    let tracking = lines.lines().filter(|line| line.contains(" flags=t"));
    assert!(tracking.count() <= 4, "{lines}");
    Ok(())
}
