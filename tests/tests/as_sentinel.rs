//! The proxy as a Sentinel [N27], compared with a real one that watches the same primary. Client libraries that use it are in `clients`.

use anyhow::{Context, Result, ensure};
use harness::{Conn, Proxy, Reply, SERVICE, Service, Version};
use harness::{next_address, wait_until};
use std::net::SocketAddrV4;
use std::time::Duration;

harness::on_full_matrix!(
    it_answers_in_the_words_of_a_real_one_n27,
    another_proxy_follows_it_n27,
);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Commands whose replies are the same, byte for byte, with the service in place of `SERVICE`.
const SAME: &[&str] = &[
    "PING",
    "PING x",
    "ROLE",
    "SENTINEL GET-MASTER-ADDR-BY-NAME nobody",
    "SENTINEL MASTER nobody",
    "SENTINEL REPLICAS nobody",
    "SENTINEL SLAVES nobody",
    "SENTINEL SENTINELS nobody",
    "SENTINEL CKQUORUM nobody",
    "SENTINEL REPLICAS SERVICE",
    "SENTINEL SLAVES SERVICE",
    "SENTINEL SENTINELS SERVICE",
    "SENTINEL CKQUORUM SERVICE",
    "SENTINEL",
    "SENTINEL nothing",
    "SENTINEL MASTER",
    "SENTINEL MASTERS x",
    "SENTINEL GET-MASTER-ADDR-BY-NAME",
    "SENTINEL CKQUORUM",
    "GET a",
    "SET a b",
    "CONFIG GET a",
    "CLIENT SETNAME me",
    "CLIENT GETNAME",
    "CLIENT NOTHING",
    "AUTH x",
    "SUBSCRIBE",
    "PSUBSCRIBE +switch-master",
    "SUBSCRIBE a b",
    "UNSUBSCRIBE a",
    "PUNSUBSCRIBE",
    "UNSUBSCRIBE",
    "UNSUBSCRIBE",
];

/// A service of one primary and one Sentinel, and a proxy that follows that and is one.
struct Pair {
    service: Service,
    proxy: Proxy,
    sentinel: SocketAddrV4,
}

impl Pair {
    fn start(version: Version) -> Result<Self> {
        let service = Service::new(version).replicas(0).sentinels(1).start()?;
        let real = service.seeds()[0];
        let sentinel = next_address()?;
        let file = format!(
            "upstream.sentinels = ['{real}']\nupstream.sentinel_service = '{SERVICE}'\n\
             sentinel.listen = '{sentinel}'\nlistener.service = '{SERVICE}'\n"
        );
        let proxy = Proxy::with_seeds(&[]).config(&file).start()?;
        Ok(Self {
            service,
            proxy,
            sentinel,
        })
    }
}

/// The names of the fields of an instance, in their order.
fn fields(instance: &Reply) -> Result<Vec<String>> {
    let items = match instance {
        Reply::Map(pairs) => return pairs.iter().map(|(name, _)| name.text()).collect(),
        other => other.texts()?,
    };
    Ok(items.into_iter().step_by(2).collect())
}

fn it_answers_in_the_words_of_a_real_one_n27(version: Version) -> Result<()> {
    let pair = Pair::start(version)?;
    for protocol in ["2", "3"] {
        let mut real = pair.service.sentinels()[0].conn()?;
        let mut ours = Conn::open(pair.sentinel)?;
        for conn in [&mut real, &mut ours] {
            let hello = conn.must(&format!("HELLO {protocol}"))?;
            let mode = hello.field("mode").context("no mode")?.text()?;
            assert_eq!(mode, "sentinel");
        }
        for command in SAME {
            let command = command.replace("SERVICE", SERVICE);
            let (theirs, own) = (real.line(&command)?, ours.line(&command)?);
            ensure!(
                theirs == own,
                "{command}: {} and {}",
                theirs.shown(),
                own.shown()
            );
            // One acknowledgement for each name.
            if command == "SUBSCRIBE a b" {
                assert_eq!(real.read()?, ours.read()?);
            }
        }
        let master = format!("SENTINEL MASTER {SERVICE}");
        let (theirs, own) = (real.must(&master)?, ours.must(&master)?);
        assert_eq!(fields(&theirs)?, fields(&own)?);
        for name in [
            "name",
            "flags",
            "role-reported",
            "num-slaves",
            "num-other-sentinels",
            "quorum",
        ] {
            let value = |reply: &Reply| reply.field(name).context("no field")?.text();
            assert_eq!(value(&theirs)?, value(&own)?, "{name}");
        }
        let masters = ours.must("SENTINEL MASTERS")?;
        assert_eq!(fields(&masters.items()?[0])?, fields(&own)?);
        let address = ours.must(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}"))?;
        let listener = pair.proxy.address();
        assert_eq!(
            address.texts()?,
            [listener.ip().to_string(), listener.port().to_string()]
        );
        let info = ours.must("INFO")?.text()?;
        let line =
            format!("master0:name={SERVICE},status=ok,address={listener},slaves=0,sentinels=1\r\n");
        ensure!(
            info.contains(&line) && info.contains("redis_mode:sentinel\r\n"),
            "{info}"
        );
        ensure!(
            ours.line("SENTINEL FAILOVER x")?
                .error()
                .is_some_and(|error| error.contains("is not offered"))
        );
    }
    Ok(())
}

/// To another proxy it is a Sentinel like any other, whose primary is the first proxy.
fn another_proxy_follows_it_n27(version: Version) -> Result<()> {
    let mut pair = Pair::start(version)?;
    let file = format!(
        "upstream.sentinels = ['{}']\nupstream.sentinel_service = '{SERVICE}'\n",
        pair.sentinel
    );
    let second = Proxy::with_seeds(&[]).config(&file).start()?;
    second.conn()?.must("SET key value")?;
    let mut primary = pair.service.conn(0)?;
    assert_eq!(primary.must("GET key")?.text()?, "value");
    ensure!(pair.proxy.metric("slotway_sentinel_connections")? >= 1.0);
    // Its clients learn of its end, and their places are free.
    let mut asking = Conn::open(pair.sentinel)?;
    asking.must("PING")?;
    pair.proxy.terminate()?;
    ensure!(asking.read_to_close()?.is_empty());
    let ended = pair.proxy.wait_for_exit(PATIENCE)?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

/// Clients of the Sentinel count as all others; a password of its own is wanted; it may stand for some listeners of several.
#[test]
fn its_clients_count_and_need_its_password_n27() -> Result<()> {
    harness::case(|| {
        let [first, second, sentinel, nowhere] = [(); 4].map(|()| next_address());
        let (first, second, sentinel) = (first?, second?, sentinel?);
        let file = format!(
            "limits.max_clients = 2\nupstream.server = '{}'\n\
             [sentinel]\nlisten = '{sentinel}'\nrequirepass = 'secret'\n\
             [[listener]]\nlisten = '{first}'\n\
             [[listener]]\nlisten = '{second}'\nservice = 'orders'\nannounce = 'redis.example.com:7777'\n",
            nowhere?
        );
        let _proxy = Proxy::with_seeds(&[])
            .config(&file)
            .listening(first)
            .launch()?;
        wait_until(PATIENCE, "it listens", || Ok(Conn::open(first).is_ok()))?;
        wait_until(PATIENCE, "nobody is connected", || {
            let mut both = [Conn::open(sentinel)?, Conn::open(sentinel)?];
            Ok(both.iter_mut().all(|conn| {
                conn.line("PING").is_ok_and(|reply| {
                    reply
                        .error()
                        .is_some_and(|error| error.starts_with("NOAUTH"))
                })
            }))
        })?;
        let mut asking = wait_for_place(sentinel)?;
        asking.must("AUTH secret")?;
        let address = asking.must("SENTINEL GET-MASTER-ADDR-BY-NAME orders")?;
        assert_eq!(address.texts()?, ["redis.example.com", "7777"]);
        assert_eq!(asking.must("SENTINEL MASTERS")?.items()?.len(), 1);
        let _other = wait_for_place(sentinel)?;
        let refused = Conn::open(first)?.read()?;
        assert_eq!(refused.error(), Some("ERR max number of clients reached"));
        Ok(())
    })
}

/// A connection that is served, which takes until those before it are gone.
fn wait_for_place(sentinel: SocketAddrV4) -> Result<Conn> {
    harness::wait_some(PATIENCE, "a place is free", || {
        let mut conn = Conn::open(sentinel)?;
        let reply = conn.line("PING")?;
        let is_served = reply
            .error()
            .is_some_and(|error| error.starts_with("NOAUTH"));
        Ok(is_served.then_some(conn))
    })
}
