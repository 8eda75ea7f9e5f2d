//! What must hold between keys.

use std::net::SocketAddr;

use super::fault::{Fault, Origin};
use super::keys::{self, Key};
use super::typed::Reader;
use super::value::show_size;
use super::{Config, LimitsConfig};

impl Reader<'_> {
    /// No two sockets of the same address.
    pub(super) fn check_addresses(&mut self, config: &Config) {
        let mut taken: Vec<(SocketAddr, &str)> = config
            .admin
            .map(|address| (address, "admin.listen"))
            .into_iter()
            .collect();
        let sentinel = config.sentinel.as_ref();
        taken.extend(sentinel.map(|it| (it.listen, "sentinel.listen")));
        for (table, listener) in config.listeners.iter().enumerate() {
            let address = listener.listen;
            let clash = taken
                .iter()
                .find(|(other, _)| *other == address && address.port() != 0);
            if let Some((_, other)) = clash {
                let (problem, remedy) = (
                    format!("is taken by {other}"),
                    "Give each its own address.".to_owned(),
                );
                match self.settings.get(&keys::LISTENER_LISTEN, table) {
                    Some(setting) => self.fault(setting, problem, remedy),
                    None => self.faults.push(Fault {
                        origin: Origin::Default,
                        key: keys::LISTENER_LISTEN.path.to_owned(),
                        value: Some(format!("\"{address}\"")),
                        problem,
                        remedy,
                    }),
                }
            }
            taken.push((address, "another listener"));
        }
    }

    /// A part is not allowed more than its whole.
    pub(super) fn check_limits(&mut self, limits: &LimitsConfig) {
        let (pause, output) = (
            limits.client_output_pause_bytes as u64,
            limits.client_output_bytes as u64,
        );
        self.check_order(
            &keys::LIMITS_CLIENT_OUTPUT_PAUSE_BYTES,
            &keys::LIMITS_CLIENT_OUTPUT_BYTES,
            pause,
            output,
        );
        let (bulk, request) = (
            limits.max_bulk_bytes.into(),
            limits.max_request_bytes.into(),
        );
        self.check_order(
            &keys::LIMITS_MAX_BULK_BYTES,
            &keys::LIMITS_MAX_REQUEST_BYTES,
            bulk,
            request,
        );
    }

    fn check_order(&mut self, lesser: &Key, greater: &Key, least: u64, most: u64) {
        // One of the two was given, since the defaults fit: blame that one.
        let given = self
            .settings
            .get(lesser, 0)
            .or_else(|| self.settings.get(greater, 0));
        if let Some(setting) = given.filter(|_| least > most) {
            let (lesser, greater, most) = (lesser.path, greater.path, show_size(most));
            let problem = format!("does not fit: {lesser} is greater than {greater} ({most})");
            self.fault(
                setting,
                problem,
                format!("Lower {lesser} or raise {greater}."),
            );
        }
    }
}
