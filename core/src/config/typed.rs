//! Reading one value: its type, its range, the fault if it is wrong.

use std::net::SocketAddr;
use std::time::Duration;

use super::Secret;
use super::fault::{Fault, Origin};
use super::keys::{Key, Kind};
use super::source::{Raw, Setting, Settings, is_secret, layer};
use super::value::{parse_duration, parse_size};
use crate::topology::Address;

/// Reads the settings and collects the faults. A value with a fault reads as the key's default, so that the rest is checked too.
pub(super) struct Reader<'a> {
    pub(super) settings: &'a Settings,
    pub(super) faults: Vec<Fault>,
    pub(super) read_secret: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
}

impl<'a> Reader<'a> {
    pub(super) fn count(&mut self, key: &'static Key, table: usize) -> usize {
        let Kind::Count { default, .. } = key.kind else {
            return 0;
        };
        self.count_or(
            key,
            table,
            default
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(1),
        )
    }

    pub(super) fn count_or(&mut self, key: &'static Key, table: usize, default: usize) -> usize {
        let Kind::Count { min, max, .. } = key.kind else {
            return default;
        };
        let Some(setting) = self.settings.get(key, table) else {
            return default;
        };
        let number = match &setting.raw {
            Raw::Integer(text) => text.parse::<i128>().ok(),
            Raw::Text(text) if is_from_outside(setting) => text.trim().parse::<i128>().ok(),
            _ => None,
        };
        self.within(
            setting,
            number.map(|number| u64::try_from(number).ok()),
            (min, max),
            "a whole number",
        )
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(default)
    }

    pub(super) fn size(&mut self, key: &'static Key, table: usize) -> usize {
        let Kind::Size { min, max, default } = key.kind else {
            return 0;
        };
        let given = self.settings.get(key, table).and_then(|setting| {
            let number = match &setting.raw {
                Raw::Text(text) => parse_size(text).map(Some),
                // The key says bytes, so a bare number cannot be misunderstood.
                Raw::Integer(text) => text
                    .parse::<i128>()
                    .ok()
                    .map(|number| u64::try_from(number).ok()),
                _ => None,
            };
            self.within(setting, number, (min, max), "a size")
        });
        usize::try_from(given.unwrap_or(default)).unwrap_or(usize::MAX)
    }

    pub(super) fn time(&mut self, key: &'static Key, table: usize) -> Duration {
        let Kind::Time { min, max, default } = key.kind else {
            return Duration::ZERO;
        };
        let Some(setting) = self.settings.get(key, table) else {
            return default;
        };
        let duration = as_text(&setting.raw).and_then(parse_duration);
        match duration {
            Some(duration) if (min..=max).contains(&duration) => return duration,
            Some(_) => self.fault(setting, "is out of range".to_owned(), key.allowed()),
            None => self.fault(setting, "is not a duration".to_owned(), key.allowed()),
        }
        default
    }

    /// `number` is `None` if the value is no number at all, `Some(None)` if it fits no u64.
    pub(super) fn within(
        &mut self,
        setting: &Setting,
        number: Option<Option<u64>>,
        range: (u64, u64),
        what: &str,
    ) -> Option<u64> {
        match number {
            Some(Some(number)) if (range.0..=range.1).contains(&number) => return Some(number),
            Some(_) => self.fault(setting, "is out of range".to_owned(), setting.key.allowed()),
            None => self.fault(setting, format!("is not {what}"), setting.key.allowed()),
        }
        None
    }

    pub(super) fn switch(&mut self, key: &'static Key, table: usize) -> bool {
        let Kind::Switch { default } = key.kind else {
            return false;
        };
        let Some(setting) = self.settings.get(key, table) else {
            return default;
        };
        match &setting.raw {
            Raw::Bool(value) => return *value,
            Raw::Text(text) if is_from_outside(setting) && text == "true" => return true,
            Raw::Text(text) if is_from_outside(setting) && text == "false" => return false,
            _ => self.fault(
                setting,
                "is neither true nor false".to_owned(),
                key.allowed(),
            ),
        }
        default
    }

    pub(super) fn choice(&mut self, key: &'static Key, table: usize) -> &'static str {
        let Kind::Choice { words, default } = key.kind else {
            return "";
        };
        let Some(setting) = self.settings.get(key, table) else {
            return default;
        };
        let word = as_text(&setting.raw).and_then(|text| words.iter().find(|word| **word == text));
        if word.is_none() {
            self.fault(
                setting,
                "is not one of the words allowed".to_owned(),
                key.allowed(),
            );
        }
        word.copied().unwrap_or(default)
    }

    pub(super) fn text(
        &mut self,
        key: &'static Key,
        table: usize,
    ) -> Option<(&'a Setting, &'a str)> {
        let setting = self.settings.get(key, table)?;
        match as_text(&setting.raw).filter(|text| !text.is_empty()) {
            Some(text) => Some((setting, text)),
            None => {
                self.fault(setting, "is not text, or empty".to_owned(), key.allowed());
                None
            }
        }
    }

    pub(super) fn socket_address(&mut self, key: &'static Key, table: usize) -> SocketAddr {
        let Kind::Text { default, .. } = key.kind else {
            return unspecified();
        };
        let fallback = default
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(unspecified);
        let Some((setting, text)) = self.text(key, table) else {
            return fallback;
        };
        text.parse().unwrap_or_else(|_| {
            self.fault(
                setting,
                "is not an IP address with a port".to_owned(),
                key.allowed(),
            );
            fallback
        })
    }

    pub(super) fn optional_address(&mut self, key: &'static Key, table: usize) -> Option<Address> {
        let (setting, text) = self.text(key, table)?;
        self.address(setting, text)
    }

    pub(super) fn address(&mut self, setting: &Setting, text: &str) -> Option<Address> {
        match Address::parse(text) {
            Ok(address) => Some(address),
            Err(error) => {
                let problem = format!("holds {text:?}, which is not an address: {error}");
                self.fault(
                    setting,
                    problem,
                    "Write HOST:PORT, such as \"redis-1:6379\" or \"[::1]:6379\".".to_owned(),
                );
                None
            }
        }
    }

    /// The password of `inline`, or of the file that `file` names; the one of the higher layer.
    pub(super) fn password(
        &mut self,
        inline: &'static Key,
        file: &'static Key,
        table: usize,
    ) -> Option<Secret> {
        let direct = self.settings.get(inline, table);
        let by_file = self.settings.get(file, table);
        if let (Some(direct), Some(by_file)) = (direct, by_file) {
            match layer(&direct.origin).cmp(&layer(&by_file.origin)) {
                std::cmp::Ordering::Greater => return self.inline_password(inline, table),
                std::cmp::Ordering::Less => return self.file_password(file, table),
                std::cmp::Ordering::Equal => {
                    let problem = format!("is given, and so is {}", file.path);
                    self.fault(direct, problem, "Keep one of the two.".to_owned());
                }
            }
        }
        self.inline_password(inline, table)
            .or_else(|| self.file_password(file, table))
    }

    pub(super) fn inline_password(&mut self, key: &'static Key, table: usize) -> Option<Secret> {
        self.text(key, table)
            .map(|(_, password)| Secret::new(password))
    }

    pub(super) fn file_password(&mut self, key: &'static Key, table: usize) -> Option<Secret> {
        let (setting, path) = self.text(key, table)?;
        let bytes = match (self.read_secret)(path) {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.fault(
                    setting,
                    format!("cannot be read: {reason}"),
                    "Give a file that this process may read.".to_owned(),
                );
                return None;
            }
        };
        let Ok(text) = String::from_utf8(bytes) else {
            self.fault(
                setting,
                "names a file that is not UTF-8 text".to_owned(),
                "Write the password as text.".to_owned(),
            );
            return None;
        };
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let password = line.strip_suffix('\r').unwrap_or(line);
        if password.is_empty() {
            self.fault(
                setting,
                "names a file that holds no password".to_owned(),
                "Write the password on its first line.".to_owned(),
            );
            return None;
        }
        Some(Secret::new(password))
    }

    pub(super) fn fault(&mut self, setting: &Setting, problem: String, remedy: String) {
        self.faults.push(Fault {
            origin: setting.origin.clone(),
            key: setting.key.path.to_owned(),
            value: (!is_secret(setting.key)).then(|| setting.raw.show()),
            problem,
            remedy,
        });
    }
}

/// The text of a text value.
pub(super) fn as_text(raw: &Raw) -> Option<&str> {
    if let Raw::Text(text) = raw {
        Some(text)
    } else {
        None
    }
}

/// Variables and flags can only be text, so text that reads as a number or a switch is one there; in the file it is a mistake.
const fn is_from_outside(setting: &Setting) -> bool {
    matches!(setting.origin, Origin::Environment(_) | Origin::Flag(_))
}

const fn unspecified() -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0)
}
