//! What clients see byte by byte, and what they may ask of the cluster that is emulated.

use super::*;

harness::on_release!(
    valkey_9_1,
    Valkey91,
    scenario_2_slots_of_any_keys_are_those_of_a_server,
    scenario_99_hidden_replies_are_those_that_a_server_hides,
    scenario_111_redis_cli_as_a_cluster_client_stays_with_the_proxy,
);

/// [scenario 2] [H1]
fn scenario_2_slots_of_any_keys_are_those_of_a_server(version: Version) -> Result<()> {
    const KEYS: usize = 20_000;
    let scene = Scene::start(version)?;
    let mut random = fastrand::Rng::with_seed(1);
    // Braces are frequent.
    let mut byte = || match random.u8(..8) {
        0 => b'{',
        1 => b'}',
        _ => random.u8(..),
    };
    let commands: Vec<Vec<Vec<u8>>> = (0..KEYS)
        .map(|n| {
            let key = (0..n % 40).map(|_| byte()).collect();
            vec![b"CLUSTER".to_vec(), b"KEYSLOT".to_vec(), key]
        })
        .collect();
    let proxied = scene.proxy.conn()?.pipeline(&commands)?;
    let native = scene.cluster.node(0)?.conn()?.pipeline(&commands)?;
    for ((command, proxied), native) in commands.iter().zip(proxied).zip(native) {
        assert_eq!(proxied, native, "{:?}", command[2]);
        assert_eq!(native.int()?, i64::from(slot_of(&command[2])));
    }
    Ok(())
}

/// [scenario 99] [L1]: all that comes, up to the end of the connection.
fn scenario_99_hidden_replies_are_those_that_a_server_hides(version: Version) -> Result<()> {
    let scene = Scene::start(version)?;
    let node = scene
        .cluster
        .node(scene.cluster.primary_of(slot_of(b"{t}"))?)?;
    for pipeline in [
        "CLIENT REPLY OFF; SET {t}k 1; INCR {t}k; NOPE; GET; CLIENT REPLY ON; GET {t}k",
        "CLIENT REPLY SKIP; SET {t}k 5; GET {t}k",
        "CLIENT REPLY SKIP; CLIENT REPLY SKIP; GET {t}k; GET {t}k; PING",
        "CLIENT REPLY OFF; CLIENT REPLY SKIP; GET {t}k; PING; CLIENT REPLY ON; PING",
        "CLIENT REPLY SKIP; NOPE; CLIENT REPLY ON; CLIENT REPLY SKIP; CLIENT REPLY ON; PING",
        "CLIENT REPLY OFF; MULTI; INCR {t}k; EXEC; CLIENT REPLY ON; GET {t}k",
        "CLIENT REPLY NOPE; CLIENT REPLY; PING; CLIENT REPLY OFF; RESET; PING",
        "CLIENT REPLY OFF; MGET {t}k {t}l; DEL {t}k; CLIENT REPLY ON; EXISTS {t}k",
    ] {
        let transcript = |mut conn: Conn| -> Result<String> {
            let commands = pipeline.split("; ").chain(["CLIENT REPLY ON", "QUIT"]);
            let bytes: Vec<u8> = commands
                .flat_map(|command| encode(&words(command)))
                .collect();
            conn.must("SET {t}k 0")?;
            conn.send_raw(&bytes)?;
            Ok(String::from_utf8(conn.read_to_close()?)?)
        };
        let native = transcript(node.conn()?)?;
        assert_eq!(transcript(scene.proxy.conn()?)?, native, "{pipeline}");
        let native = transcript(Conn::open_resp3(node.address())?)?;
        assert_eq!(
            transcript(scene.proxy.conn_resp3()?)?,
            native,
            "{pipeline}, RESP3"
        );
    }
    Ok(())
}

/// [scenario 111] [I3]: it follows redirections, of which it gets none, to any address it is shown.
fn scenario_111_redis_cli_as_a_cluster_client_stays_with_the_proxy(version: Version) -> Result<()> {
    let cluster = Cluster::new(version).replicas(0).start()?;
    let proxy = Proxy::new(&cluster).workers(1).start()?;
    let mut observers = observers(&cluster)?;
    let address = proxy.address();
    let mut conn = proxy.conn()?;
    let keys = key_of_every_shard(&cluster, 1);
    for key in &keys {
        conn.call(&["GET", key])?;
    }
    let before = accepted(&mut observers)?;
    for key in &keys {
        for command in [&["SET", key, "v"][..], &["GET", key], &["CLUSTER", "NODES"]] {
            let output = std::process::Command::new(tool("redis-cli")?)
                .args(["-c", "-h", &address.ip().to_string()])
                .args(["-p", &address.port().to_string()])
                .args(command)
                .output()?;
            let text = String::from_utf8(output.stdout)?;
            ensure!(
                output.status.success() && !text.contains("Redirected"),
                "{text}"
            );
            match command[0] {
                "SET" => assert_eq!(text.trim(), "OK"),
                "GET" => assert_eq!(text.trim(), "v"),
                _ => ensure!(
                    text.contains("myself,master") && text.lines().count() < 3,
                    "{text}"
                ),
            }
        }
    }
    // One that was sent to a node would have connected to it for each key; the proxy itself may have connected once.
    let connected = accepted(&mut observers)? - before;
    ensure!(
        connected < keys.len(),
        "the nodes were connected to {connected} times"
    );
    Ok(())
}
