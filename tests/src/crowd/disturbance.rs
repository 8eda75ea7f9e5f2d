//! The disturbances by name.

use super::target::Target;
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
    /// Many set and get big values at the same time
    BigValues,
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
    pub const ALL: [Self; 7] = [
        Self::Deaf,
        Self::HugeValue,
        Self::BigValues,
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
            Self::BigValues => "big-values",
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
            Self::HugeValue => values::set_and_get(target, 1, sizes.huge_bytes, until),
            Self::BigValues => {
                values::set_and_get(target, sizes.big_clients, sizes.big_bytes, until)
            }
            Self::Idle => clients::idle(sizes, target, until),
            Self::New => clients::come_and_go(sizes, target),
            Self::PipelineUnread => pipeline::pipeline(target, sizes.pipelined, false),
            Self::PipelineRead => pipeline::pipeline(target, sizes.pipelined, true),
        }
    }
}
