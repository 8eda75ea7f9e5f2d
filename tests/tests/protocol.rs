//! Bytes of clients: split anywhere, inline, wrong, huge; answered in order, or with the servers' own protocol errors.
//! R-numbers are the known faults of other proxies that must not happen here.

use anyhow::{Context, Result, ensure};
use harness::{Conn, Node, Proxy, Reply, Scene, Version, encode, tool};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

harness::on_full_matrix!(
    an_unknown_command_in_a_pipeline_is_one_error_in_place,
    requests_split_at_every_byte_are_understood,
    thousands_of_xadd_in_one_write,
    inline_commands_follow_the_servers_rules,
    protocol_errors_are_the_servers_own_and_close,
    pipe_mode_ends_at_once,
    payload_never_becomes_a_command,
    the_handshake_of_stackexchange_redis,
    a_million_commands_before_the_first_read,
    half_closed_and_closed_clients_disturb_nobody,
);

/// [R1]
fn an_unknown_command_in_a_pipeline_is_one_error_in_place(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let commands: Vec<Vec<&str>> = [
        "SET a 1", "FOOBAR x", "GET a", "INFO", "GET a", "GET", "GET a",
    ]
    .map(|line| line.split(' ').collect())
    .into();
    let replies = conn.pipeline(&commands)?;
    ensure!(replies[0].is_ok());
    let unknown = "ERR unknown command 'FOOBAR', with args beginning with: 'x' ";
    assert_eq!(replies[1].error(), Some(unknown));
    ensure!(replies[3].text()?.contains("redis_version:"));
    assert_eq!(
        replies[5].error(),
        Some("ERR wrong number of arguments for 'get' command")
    );
    for n in [2, 4, 6] {
        assert_eq!(replies[n].text()?, "1");
    }
    Ok(())
}

/// [R2]: every split point of a mixed pipeline, then cuts around 16 KiB.
fn requests_split_at_every_byte_are_understood(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let commands: [Vec<&[u8]>; 6] = [
        vec![b"HSET", b"h", b"f", b""],
        vec![b"SET", b"s", b"\r\n$3\r\n"],
        vec![b"PING"],
        vec![b"MGET", b"s", b"none", b"other"],
        vec![b"HGET", b"h", b"f"],
        vec![b"ECHO", b""],
    ];
    let bytes: Vec<u8> = commands
        .iter()
        .flat_map(|command| encode(command))
        .collect();
    let check = |conn: &mut Conn| -> Result<()> {
        let replies = conn.read_many(commands.len())?;
        ensure!(
            matches!(replies[0], Reply::Int(0 | 1)) && replies[1].is_ok(),
            "{replies:?}"
        );
        assert_eq!(replies[2].text()?, "PONG");
        let mget = vec![Reply::Bulk(b"\r\n$3\r\n".to_vec()), Reply::Nil, Reply::Nil];
        assert_eq!(replies[3], Reply::Array(mget));
        assert_eq!(replies[4], Reply::Bulk(Vec::new()));
        assert_eq!(replies[5], Reply::Bulk(Vec::new()));
        Ok(())
    };
    for cut in 1..bytes.len() {
        conn.send_raw(&bytes[..cut])?;
        // Lets the proxy see the first part alone: its complete commands are answered before the rest is sent.
        if cut > commands[0].concat().len() + 40 {
            ensure!(
                conn.has_reply_within(Duration::from_secs(5))?,
                "no reply to the first command"
            );
        }
        conn.send_raw(&bytes[cut..])?;
        check(&mut conn).with_context(|| format!("cut at {cut}"))?;
    }
    for piece in [1, 7] {
        for part in bytes.chunks(piece) {
            conn.send_raw(part)?;
        }
        check(&mut conn).with_context(|| format!("in pieces of {piece}"))?;
    }
    for size in 16_300..16_420 {
        let value = vec![b'v'; size];
        let bytes = [
            encode(&[b"SET", b"edge".as_slice(), &value]),
            encode(&["GET", "edge"]),
        ]
        .concat();
        conn.send_raw(&bytes[..16_384.min(bytes.len())])?;
        conn.send_raw(&bytes[16_384.min(bytes.len())..])?;
        ensure!(conn.read()?.is_ok());
        ensure!(conn.read()? == Reply::Bulk(value), "{size} bytes");
    }
    Ok(())
}

/// [R3]
fn thousands_of_xadd_in_one_write(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let command: Vec<&str> = "XADD s MAXLEN ~ 1000 * f v".split(' ').collect();
    let replies = conn.pipeline(&vec![command; 10_000])?;
    ensure!(replies.iter().all(|reply| matches!(reply, Reply::Bulk(_))));
    let mut ids: Vec<String> = replies.iter().map(Reply::text).collect::<Result<_>>()?;
    ids.dedup();
    assert_eq!(ids.len(), 10_000);
    Ok(())
}

/// [R4] [Y6]
fn inline_commands_follow_the_servers_rules(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let mut direct = Node::standalone(version).and_then(|node| Ok((node.conn()?, node)))?;
    let lines: [&[u8]; 10] = [
        b"PING\r\n",
        b"PING\n",
        b"\r\n\r\n\nPING\r\n",
        b"  SET   foo    bar  \r\n",
        b"GET foo\r\n",
        b"SET q \"a\\x41\\n\\\"b\"\r\n",
        b"GET q\n",
        b"SET 'single quoted' 'it\\'s'\r\n",
        b"GET \"single quoted\"\r\n",
        b"*0\r\n*-1\r\nECHO done\r\n",
    ];
    for line in lines {
        conn.send_raw(line)?;
        direct.0.send_raw(line)?;
        let expected = direct.0.read()?;
        assert_eq!(conn.read()?, expected, "{}", line.escape_ascii());
    }
    Ok(())
}

/// [scenario 102] [R4] [Y6] [Y7]
fn protocol_errors_are_the_servers_own_and_close(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let server = Node::standalone(version)?;
    let mut neighbour = scene.proxy.conn()?;
    let long_line = [b"GET ".to_vec(), vec![b'x'; 70_000]].concat();
    let lines_without_cr = b"*1\n$4\nPING\n".repeat(8_000);
    let bad: [&[u8]; 11] = [
        b"*abc\r\n",
        b"*3000000000\r\n",
        b"*1\r\nPING\r\n",
        b"*1\r\n:4\r\n",
        b"*2\r\n$3\r\nGET\r\n$-5\r\n",
        b"*1\r\n$abc\r\n",
        b"*1\r\n$999999999999\r\n",
        b"*2\r\n$3\r\nGET\r\nxxx\r\n",
        b"GET \"unbalanced\r\n",
        &lines_without_cr,
        &long_line,
    ];
    for bytes in bad {
        let answer = |mut conn: Conn| -> Result<Vec<u8>> {
            conn.set_timeout(Duration::from_secs(5))?;
            // A command before the fault is still answered.
            conn.send_raw(&[b"PING\r\n", bytes].concat())?;
            conn.read_to_close()
        };
        let shown = bytes[..bytes.len().min(60)].escape_ascii().to_string();
        let expected = answer(server.conn()?).with_context(|| format!("server: {shown}"))?;
        let actual = answer(scene.proxy.conn()?).with_context(|| format!("proxy: {shown}"))?;
        assert_eq!(
            actual.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{shown}"
        );
        assert_eq!(neighbour.must("PING")?.text()?, "PONG");
    }
    for http in [
        "POST / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut conn = scene.proxy.conn()?;
        conn.send_raw(http.as_bytes())?;
        conn.read_to_close()
            .with_context(|| http.trim().to_owned())?;
    }
    Ok(())
}

/// Runs redis-cli --pipe with this input; gives its summary.
fn pipe_mode(proxy: &Proxy, input: &[u8]) -> Result<String> {
    let address = proxy.address();
    let mut child = Command::new(tool("redis-cli")?)
        .args([
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
            "--pipe",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(input)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "redis-cli --pipe: {text}");
    Ok(text)
}

/// [R5]
fn pipe_mode_ends_at_once(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let input: Vec<u8> = (0..1000)
        .flat_map(|n| encode(&["SET", &format!("p:{n}"), "v"]))
        .collect();
    let started = Instant::now();
    let summary = pipe_mode(&scene.proxy, &input)?;
    ensure!(summary.contains("errors: 0, replies: 1000"), "{summary}");
    ensure!(
        started.elapsed() < Duration::from_secs(5),
        "--pipe took {:?}",
        started.elapsed()
    );
    Ok(())
}

/// [R6]
fn payload_never_becomes_a_command(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let evil: &[u8] = b"x\r\n*3\r\n$3\r\nSET\r\n$6\r\nhacked\r\n$1\r\n1\r\n+OK\r\n-ERR\r\n$5\r\n";
    for _ in 0..100 {
        conn.send_raw(&encode(&[b"SET".as_slice(), b"evil", evil]))?;
        conn.send_raw(&encode(&["GET", "evil"]))?;
        conn.send_raw(&encode(&["EXISTS", "hacked"]))?;
        ensure!(conn.read()?.is_ok());
        ensure!(conn.read()? == Reply::Bulk(evil.to_vec()));
        assert_eq!(conn.read()?.int()?, 0);
    }
    Ok(())
}

/// [R9]: its whole batch in one packet; every reply present, the tracer exact.
fn the_handshake_of_stackexchange_redis(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    for hello in ["HELLO 3", "HELLO 2"] {
        let mut conn = scene.proxy.conn()?;
        let tracer: &[u8] = &[0, 13, 10, 255, 42, 36, 43, 45, 58, 1, 2, 3, 4, 5, 6, 7];
        let lines = [
            hello,
            "CLIENT SETNAME host",
            "CLIENT SETINFO lib-name SE.Redis",
            "CLIENT SETINFO lib-ver 3.1",
            "CLIENT ID",
            "CONFIG GET timeout",
            "CONFIG GET replica-read-only",
            "CONFIG GET databases",
            "SENTINEL MASTERS",
            "INFO replication",
            "INFO server",
            "CLUSTER NODES",
            "GET __Booksleeve_TieBreak",
        ];
        let mut bytes: Vec<u8> = lines
            .iter()
            .flat_map(|line| encode(&line.split(' ').collect::<Vec<_>>()))
            .collect();
        bytes.extend(encode(&[b"ECHO", tracer]));
        conn.send_raw(&bytes)?;
        let replies = conn.read_many(lines.len() + 1)?;
        assert_eq!(
            *replies.last().context("no reply")?,
            Reply::Bulk(tracer.to_vec())
        );
        ensure!(replies[1].is_ok() && replies[2].is_ok() && replies[3].is_ok());
        ensure!(replies[4].int()? > 0);
        ensure!(replies[9].text()?.contains("role:master"));
        ensure!(replies[10].text()?.contains("redis_mode:standalone"));
    }
    Ok(())
}

/// [R44]: no disconnect, no deadlock, bounded memory; the client writes everything before it reads anything.
fn a_million_commands_before_the_first_read(version: Version) -> Result<()> {
    const COMMANDS: usize = 1_000_000;
    let scene = Scene::start(version)?;
    let mut conn = scene.proxy.conn()?;
    let mut writer = conn.stream().try_clone()?;
    let before = scene.proxy.resident_bytes()?;
    let writing = std::thread::spawn(move || -> std::io::Result<()> {
        let command = encode(&["INCR", "counter"]);
        let batch = command.repeat(1000);
        for _ in 0..COMMANDS / 1000 {
            writer.write_all(&batch)?;
        }
        Ok(())
    });
    // The proxy must either take everything or stop reading; other clients are served all the while.
    let mut other = scene.proxy.conn()?;
    harness::wait_until(
        Duration::from_secs(20),
        "the proxy has taken in what it wants",
        || {
            let first = other.must("GET counter")?;
            let again = other.must("GET counter")?;
            Ok(first != Reply::Nil && (first == again || writing.is_finished()))
        },
    )?;
    for n in 1..=COMMANDS {
        let value = conn.read()?.int()?;
        ensure!(value == i64::try_from(n)?, "reply {n} is {value}");
    }
    writing.join().ok().context("the writer panicked")??;
    let grown = scene.proxy.resident_bytes()?.saturating_sub(before);
    ensure!(grown < 200 << 20, "the proxy grew by {} MiB", grown >> 20);
    Ok(())
}

/// Clients that go away in the middle of everything.
fn half_closed_and_closed_clients_disturb_nobody(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let mut other = scene.proxy.conn()?;
    other.must("SET k v")?;
    for n in 0..200 {
        let mut conn = scene.proxy.conn()?;
        let commands = encode(&["INCR", "n"]).repeat(50);
        conn.send_raw(&commands)?;
        conn.send_raw(&b"*2\r\n$3\r\nGET\r\n$100\r\nhalf"[..n % 23])?;
        if n % 3 == 0 {
            conn.close_write()?;
        }
        drop(conn);
        assert_eq!(other.must("GET k")?.text()?, "v");
    }
    harness::wait_until(
        Duration::from_secs(5),
        "the clients that left are forgotten",
        || {
            let list = other.must("CLIENT LIST")?.text()?;
            Ok(list.lines().count() == 1)
        },
    )?;
    ensure!(scene.cluster.nodes().iter().all(|node| node.conn().is_ok()));
    Ok(())
}
