//! What one server says of itself: is it a primary, and which process is it.

use std::sync::Arc;

use slotway_core::resp::Value;
use slotway_core::topology::{Address, NodeId};
use tokio::time::timeout;

use super::super::link::{ControlLink, QueryError, shown, text, whole};
use super::super::settings::{DiscoverySettings, QUERY_TIMEOUT};

/// Whether a server takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does.
    Primary,
    /// It follows this one, which it names.
    ReplicaOf(String),
    /// It is a node of a cluster: it would refuse keys of other slots.
    Member,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    /// New with every start; `None` if it does not tell.
    pub(super) run_id: Option<String>,
    pub(super) standing: Standing,
    /// Of a primary: where its replicas are that are connected to it.
    pub(super) replicas: Vec<Address>,
}

impl Probe {
    /// What a server that is no node of a cluster is known by: its run id, so that what was known of it ends with it.
    pub(super) fn node_id(&self, address: &Address) -> NodeId {
        match &self.run_id {
            Some(run_id) => NodeId::new(run_id),
            None => NodeId::new(&address.to_string()),
        }
    }
}

/// Asks the server at `address`, over `idle` if that still works, else over a new connection, which is returned. After any error it
/// is closed, because it may owe replies.
pub(super) async fn probe(
    address: Address,
    idle: Option<ControlLink>,
    settings: Arc<DiscoverySettings>,
) -> Result<(ControlLink, Probe), QueryError> {
    let attempt = async {
        if let Some(mut link) = idle {
            match question(&mut link).await {
                Ok(probe) => return Ok((link, probe)),
                // The server may have closed it while it was idle.
                Err(QueryError::Lost(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut link = ControlLink::open(address, &settings).await?;
        let probe = question(&mut link).await?;
        Ok((link, probe))
    };
    timeout(QUERY_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(QueryError::Timeout))
}

/// What whoever runs the proxy can do about it.
pub(super) fn advice(error: &QueryError) -> &'static str {
    match error {
        QueryError::Refused(text) if text.starts_with("NOPERM") => {
            "the proxy's user at this server (upstream.user) needs ROLE and INFO: ACL SETUSER <user> +role +info"
        }
        error => error.advice(),
    }
}

async fn question(link: &mut ControlLink) -> Result<Probe, QueryError> {
    let role = link.question(&[b"ROLE"]).await?;
    let info = link.question(&[b"INFO", b"server"]).await?;
    let (role, info) = (whole(&role)?, whole(&info)?);
    let is_told = !matches!((&role, &info), (Value::Error(_), Value::Error(_)));
    let role = match role {
        // Not permitted: INFO says the same.
        Value::Error(_) if is_told => {
            let replication = link.question(&[b"INFO", b"replication"]).await?;
            return Ok(by_info(&info, &whole(&replication)?));
        }
        Value::Error(error) => return Err(QueryError::Refused(shown(error))),
        role => role,
    };
    let standing = by_role(&role).ok_or(QueryError::Protocol)?;
    Ok(found(standing, replicas_by_role(&role), &info))
}

/// The answer to ROLE: the role, and of a replica the host and port of its primary.
fn by_role(role: &Value<'_>) -> Option<Standing> {
    let Value::Array(items) = role else {
        return None;
    };
    match text(items.first()?)? {
        b"master" => Some(Standing::Primary),
        b"slave" | b"replica" => {
            let host = items.get(1).and_then(text).unwrap_or_default();
            let port = match items.get(2) {
                Some(Value::Integer(port)) => *port,
                _ => 0,
            };
            Some(Standing::ReplicaOf(format!("{}:{port}", shown(host))))
        }
        _ => None,
    }
}

/// The replicas in the answer of a primary to ROLE.
fn replicas_by_role(role: &Value<'_>) -> Vec<Address> {
    let Value::Array(items) = role else {
        return Vec::new();
    };
    let Some(Value::Array(replicas)) = items.get(2) else {
        return Vec::new();
    };
    let address = |replica: &Value<'_>| match replica {
        Value::Array(fields) => {
            let [host, port] = [fields.first(), fields.get(1)].map(|field| field.and_then(text));
            let text = format!("{}:{}", shown(host?), shown(port?));
            text.parse().ok()
        }
        _ => None,
    };
    replicas.iter().filter_map(address).collect()
}

/// The replicas in the answer of a primary to INFO: `slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0`.
fn replicas_by_info(replication: &Value<'_>) -> Vec<Address> {
    let replica = |number: usize| field(replication, &format!("slave{number}"));
    let address = |line: &str| {
        let value = |name: &str| {
            let mut fields = line.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(other, _)| *other == name)
        };
        let ((_, host), (_, port)) = (value("ip")?, value("port")?);
        format!("{host}:{port}").parse().ok()
    };
    let lines = (0..).map_while(replica);
    lines.filter_map(address).collect()
}

fn by_info(server: &Value<'_>, replication: &Value<'_>) -> Probe {
    let standing = match field(replication, "role") {
        Some("slave" | "replica") => {
            let host = field(replication, "master_host").unwrap_or_default();
            let port = field(replication, "master_port").unwrap_or_default();
            Standing::ReplicaOf(format!("{host}:{port}"))
        }
        // What does not tell is what it is configured as.
        _ => Standing::Primary,
    };
    found(standing, replicas_by_info(replication), server)
}

fn found(standing: Standing, replicas: Vec<Address>, server: &Value<'_>) -> Probe {
    // Valkey has another name for it.
    let mode = field(server, "redis_mode").or_else(|| field(server, "server_mode"));
    let is_member = mode == Some("cluster");
    Probe {
        run_id: field(server, "run_id").map(str::to_owned),
        standing: if is_member {
            Standing::Member
        } else {
            standing
        },
        replicas,
    }
}

/// A field of an answer to INFO.
fn field<'a>(info: &Value<'a>, name: &str) -> Option<&'a str> {
    let info = std::str::from_utf8(text(info)?).ok()?;
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(other, _)| *other == name)?;
    Some(value.trim_end())
}

#[cfg(test)]
mod tests {
    use slotway_core::resp::parse_value;

    use super::*;

    fn value(reply: &str) -> Value<'_> {
        parse_value(reply.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn role_says_who_takes_writes_n24() {
        let primary = value("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
        assert_eq!(by_role(&primary), Some(Standing::Primary));
        assert_eq!(replicas_by_role(&primary), []);
        let replica = "*3\r\n$8\r\n10.0.0.2\r\n$4\r\n6379\r\n$2\r\n14\r\n";
        let followed = format!("*3\r\n$6\r\nmaster\r\n:14\r\n*2\r\n{replica}{replica}");
        let at = "10.0.0.2:6379".parse::<Address>().unwrap();
        assert_eq!(replicas_by_role(&value(&followed)), [at.clone(), at]);
        let replica =
            value("*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:14\r\n");
        let followed = Standing::ReplicaOf("127.0.0.1:6379".to_owned());
        assert_eq!(by_role(&replica), Some(followed));
        assert_eq!(by_role(&value("*1\r\n$8\r\nsentinel\r\n")), None);
    }

    #[test]
    fn info_says_which_process_it_is_and_the_role_where_role_is_not_permitted() {
        let server = "# Server\r\nredis_mode:standalone\r\nrun_id:abc\r\n";
        let member = "server_mode:cluster\r\nrun_id:abc\r\n";
        let replication = "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:7\r\n";
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let (server, member, replication) = (bulk(server), bulk(member), bulk(replication));
        let probe = found(Standing::Primary, Vec::new(), &value(&server));
        assert_eq!(probe.run_id.as_deref(), Some("abc"));
        assert_eq!(probe.standing, Standing::Primary);
        let probe = found(Standing::Primary, Vec::new(), &value(&member));
        assert_eq!(probe.standing, Standing::Member);
        let probe = by_info(&value(&server), &value(&replication));
        let followed = Standing::ReplicaOf("10.0.0.1:7".to_owned());
        assert_eq!(probe.standing, followed);
        let replication = bulk(
            "role:master\r\nconnected_slaves:2\r\nslave0:ip=10.0.0.2,port=7,state=online,offset=14,lag=0\r\n\
             slave1:ip=::3,port=8,state=online,offset=14,lag=0\r\n",
        );
        let probe = by_info(&value(&server), &value(&replication));
        let at = ["10.0.0.2:7", "[::3]:8"].map(|at| at.parse::<Address>().unwrap());
        assert_eq!(
            (probe.standing, probe.replicas),
            (Standing::Primary, at.to_vec())
        );
        let refused = value("-NOPERM no\r\n");
        assert_eq!(by_info(&refused, &refused).standing, Standing::Primary);
    }
}
