//! All figures of all rounds.

use super::contenders::Who;
use super::idle::Idle;
use super::statistics::{median, spread};

/// One run of one workload through one contender.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Processor time for one request, where no others were served meanwhile
    pub(super) cpu: Option<CpuEach>,
    /// The part of a processor that redis-benchmark took: near 1, it is the limit
    pub(super) generator: Option<f64>,
}

/// Microseconds of processor time for one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuEach {
    /// Of the proxy, if there is one
    pub(super) proxy: Option<ProxyCpu>,
    /// Of all servers behind
    pub(super) servers: f64,
}

/// The proxy's own and the kernel's for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProxyCpu {
    pub(super) user: f64,
    pub(super) system: f64,
}

/// What there is a median of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    PerSecond,
    P50,
    P99,
    User,
    System,
    /// User and system
    Proxy,
    Servers,
    Generator,
}

impl Figure {
    pub(super) const ALL: [Self; 8] = [
        Self::PerSecond,
        Self::P50,
        Self::P99,
        Self::User,
        Self::System,
        Self::Proxy,
        Self::Servers,
        Self::Generator,
    ];

    /// Name in the file, with the unit.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "requests_per_second",
            Self::P50 => "p50_ms",
            Self::P99 => "p99_ms",
            Self::User => "proxy_user_us",
            Self::System => "proxy_system_us",
            Self::Proxy => "proxy_us",
            Self::Servers => "servers_us",
            Self::Generator => "generator_share",
        }
    }

    fn of(self, sample: &Sample) -> Option<f64> {
        let proxy = sample.cpu.and_then(|cpu| cpu.proxy);
        match self {
            Self::PerSecond => Some(sample.per_second),
            Self::P50 => Some(sample.p50_ms),
            Self::P99 => Some(sample.p99_ms),
            Self::User => Some(proxy?.user),
            Self::System => Some(proxy?.system),
            Self::Proxy => Some(proxy?.user + proxy?.system),
            Self::Servers => Some(sample.cpu?.servers),
            Self::Generator => sample.generator,
        }
    }
}

/// The rounds of one workload through one contender.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) workload: &'static str,
    pub(super) who: Who,
    samples: Vec<Sample>,
}

impl Series {
    pub(super) fn rounds(&self, figure: Figure) -> Vec<f64> {
        let figures = self.samples.iter().filter_map(|sample| figure.of(sample));
        figures.collect()
    }

    /// None if it was not measured.
    pub(super) fn median(&self, figure: Figure) -> Option<f64> {
        let rounds = self.rounds(figure);
        (!rounds.is_empty()).then(|| median(rounds))
    }

    /// How far the rounds are apart, as a part of the median.
    pub(super) fn spread(&self, figure: Figure) -> Option<f64> {
        let rounds = self.rounds(figure);
        (!rounds.is_empty()).then(|| spread(&rounds))
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// In the order of the first round
    pub(super) series: Vec<Series>,
    pub(super) idle: Vec<Idle>,
}

impl Results {
    pub(super) fn add(&mut self, workload: &'static str, who: Who, sample: Sample) {
        let mut known = self.series.iter_mut();
        match known.find(|series| series.workload == workload && series.who == who) {
            Some(series) => series.samples.push(sample),
            None => self.series.push(Series {
                workload,
                who,
                samples: vec![sample],
            }),
        }
    }

    /// None if it was not measured.
    pub(super) fn median(&self, workload: &str, who: Who, figure: Figure) -> Option<f64> {
        let mut all = self.series.iter();
        let series = all.find(|series| series.workload == workload && series.who == who)?;
        series.median(figure)
    }
}
