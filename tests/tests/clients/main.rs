//! Client libraries at their default settings, each with a program that uses it as applications do: strings to streams,
//! scripts, pipelines, SCAN iterators, transactions, WATCH, blocking commands, pub/sub, and a connection that is killed.
//! The programs are in `tests/clients`, those of the Rust libraries here; `scripts/fetch-clients.sh` installs the libraries
//! below `.tools/clients`.

mod frameworks;
mod fred;
mod offer;
mod programs;
mod redis_rs;
mod redis_rs_async;
mod rust;

use anyhow::Result;
use frameworks::{Framework, run_on_sentinels, run_over_a_failover, run_unsplit};
use harness::Version;
use programs::{Check, Library, Straight};

harness::on_full_matrix!(
    redis_py,
    valkey_py,
    valkey_glide,
    coredis,
    celery,
    rq,
    ioredis_5,
    ioredis_6,
    iovalkey,
    node_redis_4,
    node_redis_6,
    bullmq,
    php_redis,
    ruby_redis,
    hiredis,
    redis_rs_all,
    fred_all,
    redis_py_by_sentinel_n27,
    ioredis_by_sentinel_n27,
    node_redis_by_sentinel_n27,
    php_redis_by_sentinel_n27,
    ruby_redis_by_sentinel_n27,
    celery_on_sentinels,
    rq_on_sentinels,
    bullmq_on_sentinels,
    celery_over_a_failover,
    bullmq_over_a_failover,
    sidekiq,
    laravel,
);
harness::on_release!(redis_8_2, Redis82, redis_py_cache);

const PLAIN: Straight = Straight::Server;
const CLUSTER: Straight = Straight::Cluster;

fn redis_py(version: Version) -> Result<()> {
    Library::python("redis-py").run(
        version,
        &[
            Check::new("redis_py.py", &["redis", "default"], PLAIN),
            Check::new("redis_py.py", &["redis", "2"], PLAIN),
            Check::new("redis_py_asyncio.py", &["redis", "default"], PLAIN),
            Check::new("redis_py_asyncio.py", &["redis", "2"], PLAIN),
            Check::new("redis_py_cluster.py", &["redis", "default"], CLUSTER),
            Check::new("redis_py_cluster.py", &["redis", "2"], CLUSTER),
        ],
    )
}

/// Its cache wants Redis 7.4 or newer.
fn redis_py_cache(version: Version) -> Result<()> {
    let check = Check::new("redis_py_cache.py", &[], PLAIN);
    Library::python("redis-py").run(version, &[check])
}

fn valkey_py(version: Version) -> Result<()> {
    Library::python("valkey-py").run(
        version,
        &[
            Check::new("redis_py.py", &["valkey", "default"], PLAIN),
            Check::new("redis_py.py", &["valkey", "3"], PLAIN),
            Check::new("redis_py_asyncio.py", &["valkey", "default"], PLAIN),
            Check::new("redis_py_asyncio.py", &["valkey", "3"], PLAIN),
            Check::new("redis_py_cluster.py", &["valkey", "default"], CLUSTER),
        ],
    )
}

fn valkey_glide(version: Version) -> Result<()> {
    Library::python("valkey-glide").run(
        version,
        &[
            Check::new("valkey_glide.py", &["plain", "3"], PLAIN),
            Check::new("valkey_glide.py", &["plain", "2"], PLAIN),
            Check::new("valkey_glide.py", &["cluster", "3"], CLUSTER),
        ],
    )
}

fn coredis(version: Version) -> Result<()> {
    Library::python("coredis").run(
        version,
        &[
            Check::new("coredis_check.py", &["plain"], PLAIN),
            Check::new("coredis_check.py", &["cluster"], CLUSTER),
        ],
    )
}

fn celery(version: Version) -> Result<()> {
    Framework {
        library: Library::python("celery"),
        script: "celery_check.py",
        needs: &["blocking", "watch", "pubsub"],
        prefix: "{celery}",
    }
    .run(version)
}

fn rq(version: Version) -> Result<()> {
    Framework {
        library: Library::python("rq"),
        script: "rq_check.py",
        needs: &["blocking", "watch", "pubsub"],
        prefix: "{rq}",
    }
    .run(version)
}

fn bullmq(version: Version) -> Result<()> {
    Framework {
        library: Library::node("bullmq"),
        script: "bullmq.mjs",
        needs: &["blocking"],
        prefix: "{bull}",
    }
    .run(version)
}

fn celery_on_sentinels(version: Version) -> Result<()> {
    run_on_sentinels(&Library::python("celery"), "celery_check.py", version)
}

fn rq_on_sentinels(version: Version) -> Result<()> {
    run_on_sentinels(&Library::python("rq"), "rq_check.py", version)
}

fn bullmq_on_sentinels(version: Version) -> Result<()> {
    run_on_sentinels(&Library::node("bullmq"), "bullmq.mjs", version)
}

fn celery_over_a_failover(version: Version) -> Result<()> {
    run_over_a_failover(&Library::python("celery"), "celery_failover.py", version)
}

fn bullmq_over_a_failover(version: Version) -> Result<()> {
    run_over_a_failover(&Library::node("bullmq"), "bullmq-failover.mjs", version)
}

/// What Sidekiq does to the server, by the library it is built on.
fn sidekiq(version: Version) -> Result<()> {
    run_unsplit(&Library::ruby("ruby-redis"), "sidekiq.rb", version)
}

/// What the queues, the cache and the sessions of Laravel do to the server, by the library it is built on.
fn laravel(version: Version) -> Result<()> {
    run_unsplit(&Library::php("php-redis"), "laravel.php", version)
}

fn ioredis_5(version: Version) -> Result<()> {
    ioredis(version, "ioredis-5", &["ioredis-5"])
}

fn ioredis_6(version: Version) -> Result<()> {
    ioredis(version, "ioredis-6", &["ioredis"])
}

fn iovalkey(version: Version) -> Result<()> {
    ioredis(version, "iovalkey", &["iovalkey"])
}

fn ioredis(version: Version, client: &'static str, package: &'static [&str]) -> Result<()> {
    Library::node(client).run(
        version,
        &[
            Check::new("ioredis.mjs", package, PLAIN),
            Check::new("ioredis-cluster.mjs", package, CLUSTER),
        ],
    )
}

fn node_redis_4(version: Version) -> Result<()> {
    Library::node("node-redis-4").run(
        version,
        &[
            Check::new("node-redis.mjs", &["redis-4"], PLAIN),
            Check::new("node-redis-cluster.mjs", &["redis-4"], CLUSTER),
        ],
    )
}

fn node_redis_6(version: Version) -> Result<()> {
    Library::node("node-redis-6").run(
        version,
        &[
            Check::new("node-redis.mjs", &["redis"], PLAIN),
            Check::new("node-redis.mjs", &["redis", "2"], PLAIN),
            Check::new("node-redis-cluster.mjs", &["redis"], CLUSTER),
        ],
    )
}

fn php_redis(version: Version) -> Result<()> {
    Library::php("php-redis").run(version, &[Check::new("check.php", &[], PLAIN)])
}

fn ruby_redis(version: Version) -> Result<()> {
    Library::ruby("ruby-redis").run(version, &[Check::new("check.rb", &[], PLAIN)])
}

fn hiredis(version: Version) -> Result<()> {
    Library::compiled("hiredis").run(version, &[Check::new("", &[], PLAIN)])
}

fn redis_py_by_sentinel_n27(version: Version) -> Result<()> {
    for (name, module) in [("redis-py", "redis"), ("valkey-py", "valkey")] {
        Library::python(name).run_by_sentinel(version, &[("redis_py_sentinel.py", &[module])])?;
    }
    Ok(())
}

fn ioredis_by_sentinel_n27(version: Version) -> Result<()> {
    for (name, package) in [
        ("ioredis-5", "ioredis-5"),
        ("ioredis-6", "ioredis"),
        ("iovalkey", "iovalkey"),
    ] {
        Library::node(name).run_by_sentinel(version, &[("ioredis-sentinel.mjs", &[package])])?;
    }
    Ok(())
}

fn node_redis_by_sentinel_n27(version: Version) -> Result<()> {
    let script = "node-redis-sentinel.mjs";
    let programs: [(&str, &[&str]); 2] = [(script, &["redis"]), (script, &["redis", "2"])];
    Library::node("node-redis-6").run_by_sentinel(version, &programs)
}

fn php_redis_by_sentinel_n27(version: Version) -> Result<()> {
    Library::php("php-redis").run_by_sentinel(version, &[("check_sentinel.php", &[])])
}

fn ruby_redis_by_sentinel_n27(version: Version) -> Result<()> {
    Library::ruby("ruby-redis").run_by_sentinel(version, &[("check_sentinel.rb", &[])])
}

fn redis_rs_all(version: Version) -> Result<()> {
    rust::run(version, redis_rs::plain, redis_rs::cluster)?;
    rust::run(version, redis_rs_async::plain, redis_rs_async::cluster)
}

fn fred_all(version: Version) -> Result<()> {
    rust::run(version, fred::plain, fred::cluster)
}
