//! Which clients CLIENT LIST shows and CLIENT KILL closes.

use super::{ClientRow, parse_integer, quote};
use crate::resp::Args;

/// Why a filter was refused, in the servers' words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FilterError {
    Syntax,
    UnknownType(Vec<u8>),
    NoSuchUser(Vec<u8>),
    InvalidListId,
    InvalidKillId,
    InvalidMaxAge,
}

impl FilterError {
    /// The error to the client, without the dash.
    pub(super) fn text(&self) -> Vec<u8> {
        match self {
            Self::Syntax => b"ERR syntax error".to_vec(),
            Self::UnknownType(name) => quote("ERR Unknown client type '", name, "'"),
            Self::NoSuchUser(name) => quote("ERR No such user '", name, "'"),
            Self::InvalidListId => b"ERR Invalid client ID".to_vec(),
            Self::InvalidKillId => b"ERR client-id should be greater than 0".to_vec(),
            Self::InvalidMaxAge => b"ERR maxage is not an integer or out of range".to_vec(),
        }
    }
}

/// The servers' kinds of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    /// Connections of replication: the proxy has none.
    Replication,
    /// With subscriptions.
    PubSub,
}

/// Conditions a client must meet, all of them.
#[derive(Debug, Default)]
pub(super) struct Filter {
    ids: Option<Vec<u64>>,
    kind: Option<Kind>,
    remote: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    minimum_age: Option<u64>,
    /// The caller's id, if the caller is to be left out.
    skip: Option<u64>,
}

impl Filter {
    /// CLIENT LIST: TYPE and ID, and the other filters of CLIENT KILL, together as Valkey 9 takes them.
    pub(super) fn parse_list(args: Args<'_>, caller: u64) -> Result<Self, FilterError> {
        // Any integer is taken here; one that is no id matches no client.
        let parse_id = |word: &[u8]| Some(u64::try_from(parse_integer(word)?).unwrap_or_default());
        Self::default().with_options(args, caller, |word| {
            parse_id(word).ok_or(FilterError::InvalidListId)
        })
    }

    /// The new form of CLIENT KILL; the caller is spared unless SKIPME NO.
    pub(super) fn parse_kill(args: Args<'_>, caller: u64) -> Result<Self, FilterError> {
        let filter = Self {
            skip: Some(caller),
            ..Self::default()
        };
        let parse_id = |word: &[u8]| {
            let id = u64::try_from(parse_integer(word)?).ok();
            id.filter(|id| *id > 0)
        };
        filter.with_options(args, caller, |word| {
            parse_id(word).ok_or(FilterError::InvalidKillId)
        })
    }

    /// The old form of CLIENT KILL, which does not spare the caller.
    pub(super) fn for_address(remote: &[u8]) -> Self {
        Self {
            remote: Some(remote.to_vec()),
            ..Self::default()
        }
    }

    fn with_options(
        mut self,
        args: Args<'_>,
        caller: u64,
        parse_id: impl Fn(&[u8]) -> Result<u64, FilterError>,
    ) -> Result<Self, FilterError> {
        let mut words = args.iter().skip(2).peekable();
        while let Some(option) = words.next() {
            let value = words.next().ok_or(FilterError::Syntax)?;
            let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
            if is("ID") {
                let ids = self.ids.get_or_insert_default();
                ids.push(parse_id(value)?);
                // Any number of ids may follow; the first word that is not a number is the next option.
                while let Some(word) =
                    words.next_if(|word| word.first().is_some_and(u8::is_ascii_digit))
                {
                    ids.push(parse_id(word)?);
                }
            } else if is("TYPE") {
                self.kind = Some(parse_kind(value)?);
            } else if is("ADDR") {
                self.remote = Some(value.to_vec());
            } else if is("LADDR") {
                self.local = Some(value.to_vec());
            } else if is("USER") {
                self.user = Some(value.to_vec());
            } else if is("MAXAGE") {
                let age = parse_integer(value).and_then(|age| u64::try_from(age).ok());
                self.minimum_age = Some(age.ok_or(FilterError::InvalidMaxAge)?);
            } else if is("SKIPME") {
                self.skip = parse_skip(value, caller)?;
            } else {
                return Err(FilterError::Syntax);
            }
        }
        Ok(self)
    }

    /// The only ids that can match, if the filter names ids.
    pub(super) fn ids(&self) -> Option<&[u64]> {
        self.ids.as_deref()
    }

    /// The user the filter names.
    pub(super) fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    pub(super) fn accepts(&self, row: &ClientRow<'_>) -> bool {
        let address = |wanted: &Option<Vec<u8>>, address: std::net::SocketAddr| {
            wanted
                .as_ref()
                .is_none_or(|wanted| address.to_string().as_bytes() == wanted.as_slice())
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&row.id))
            && self.kind.is_none_or(|kind| kind == kind_of(row))
            && self
                .user
                .as_ref()
                .is_none_or(|user| row.user == user.as_slice())
            && self.minimum_age.is_none_or(|age| row.age_seconds >= age)
            && self.skip != Some(row.id)
            && address(&self.remote, row.remote)
            && address(&self.local, row.local)
    }
}

fn kind_of(row: &ClientRow<'_>) -> Kind {
    if row.subscriptions == [0; 3] {
        Kind::Normal
    } else {
        Kind::PubSub
    }
}

fn parse_kind(value: &[u8]) -> Result<Kind, FilterError> {
    let is = |name: &str| value.eq_ignore_ascii_case(name.as_bytes());
    if is("normal") {
        Ok(Kind::Normal)
    } else if is("master") || is("primary") || is("slave") || is("replica") {
        Ok(Kind::Replication)
    } else if is("pubsub") {
        Ok(Kind::PubSub)
    } else {
        Err(FilterError::UnknownType(value.to_vec()))
    }
}

fn parse_skip(value: &[u8], caller: u64) -> Result<Option<u64>, FilterError> {
    if value.eq_ignore_ascii_case(b"yes") {
        Ok(Some(caller))
    } else if value.eq_ignore_ascii_case(b"no") {
        Ok(None)
    } else {
        Err(FilterError::Syntax)
    }
}
