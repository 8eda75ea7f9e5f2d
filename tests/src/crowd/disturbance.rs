//! The disturbances by name.

use super::target::Target;
use super::values::Pace;
use super::{Sizes, clients, pipeline, values};
use anyhow::Result;
use std::time::{Duration, Instant};

/// What some clients do to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Many ask for big values and do not read them
    Deaf,
    /// One sets and gets a huge value
    HugeValue,
    /// The same over a network
    HugeValueNetwork,
    /// Many set and get big values at the same time
    BigValues,
    /// The same over a network
    BigValuesNetwork,
    /// A multitude connects and does nothing
    Idle,
    /// Clients connect, ask once and go, many in a second
    New,
    /// One writes a very long pipeline before it reads
    PipelineUnread,
    /// One writes a very long pipeline and reads meanwhile
    PipelineRead,
}

impl Disturbance {
    /// Each.
    pub const ALL: [Self; 9] = [
        Self::Deaf,
        Self::HugeValue,
        Self::HugeValueNetwork,
        Self::BigValues,
        Self::BigValuesNetwork,
        Self::Idle,
        Self::New,
        Self::PipelineUnread,
        Self::PipelineRead,
    ];

    /// A short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deaf => "deaf",
            Self::HugeValue => "huge-value",
            Self::HugeValueNetwork => "huge-value-network",
            Self::BigValues => "big-values",
            Self::BigValuesNetwork => "big-values-network",
            Self::Idle => "idle",
            Self::New => "new",
            Self::PipelineUnread => "pipeline-unread",
            Self::PipelineRead => "pipeline-read",
        }
    }

    /// The disturbance of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|disturbance| disturbance.name() == name)
    }

    /// How long it is there at least.
    pub(super) const fn time(self, sizes: &Sizes) -> Duration {
        match self {
            Self::Deaf | Self::Idle => sizes.lasting,
            _ => sizes.disturbed,
        }
    }

    /// How much its clients send and get in a second, if not all they can.
    fn pace(self, sizes: &Sizes) -> Option<Pace> {
        matches!(self, Self::HugeValueNetwork | Self::BigValuesNetwork)
            .then(|| Pace::new(sizes.network_bytes))
    }

    /// What has to be there before.
    pub(super) fn prepare(self, sizes: &Sizes, target: &Target) -> Result<()> {
        match self {
            Self::Deaf => clients::make_big_values(sizes, target),
            _ => Ok(()),
        }
    }

    /// Disturbs until about `until`, and checks every reply that is read; gives what was done, in numbers.
    pub(super) fn run(self, sizes: &Sizes, target: &Target, until: Instant) -> Result<String> {
        match self {
            Self::Deaf => clients::deaf(sizes, target, until),
            Self::HugeValue | Self::HugeValueNetwork => {
                let pace = self.pace(sizes);
                values::set_and_get(target, 1, sizes.huge_bytes, pace, until)
            }
            Self::BigValues | Self::BigValuesNetwork => {
                let (clients, bytes) = (sizes.big_clients, sizes.big_bytes);
                values::set_and_get(target, clients, bytes, self.pace(sizes), until)
            }
            Self::Idle => clients::idle(sizes, target, until),
            Self::New => clients::come_and_go(sizes, target),
            Self::PipelineUnread => pipeline::pipeline(target, sizes.pipelined, false),
            Self::PipelineRead => pipeline::pipeline(target, sizes.pipelined, true),
        }
    }
}
