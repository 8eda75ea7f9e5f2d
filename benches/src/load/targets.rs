//! What slotway is to reach, and whether it did.
//!
//! The figures come from prototypes and peers that were measured on two processors before it was built; each target names those
//! it was set by. Absolute times are of that machine.

use super::contenders::Who;
use super::idle;
use super::results::{Figure, Results};

/// What of slotway is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Requests a second, divided by another's
    Rate(Who),
    /// p99, divided by another's
    P99(Who),
    /// What it adds to the direct p50, divided by what another adds
    AddedP50(Who),
    /// Processor time of the proxy for one request, in us
    Cpu,
    /// The part of it that is not the kernel's
    User,
    /// Processor time of the proxy, divided by that of another workload
    CpuOf(&'static str),
    /// Bytes of a connection that never asked anything
    Untouched,
    /// Bytes of a connection that asked once
    Used,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Missed,
    /// A peer is not installed, or the workload was left out
    NotMeasured,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) workload: &'static str,
    pub(super) measure: Measure,
    pub(super) bound: Bound,
    /// What to reach for after that
    pub(super) then: Option<f64>,
    /// The figures that the bound was set by
    pub(super) source: &'static str,
}

impl Target {
    const fn new(
        workload: &'static str,
        measure: Measure,
        bound: Bound,
        source: &'static str,
    ) -> Self {
        Self {
            workload,
            measure,
            bound,
            then: None,
            source,
        }
    }

    const fn then(self, then: f64) -> Self {
        Self {
            then: Some(then),
            ..self
        }
    }

    /// The figure, if all it takes was measured.
    pub(super) fn measured(&self, results: &Results) -> Option<f64> {
        let median = |who, figure| results.median(self.workload, who, figure);
        let ratio = |other, figure| Some(median(Who::Slotway, figure)? / median(other, figure)?);
        let added = |who| Some(median(who, Figure::P50)? - median(Who::Direct, Figure::P50)?);
        let idle = || results.idle.iter().find(|idle| idle.who == Who::Slotway);
        match self.measure {
            Measure::Rate(other) => ratio(other, Figure::PerSecond),
            Measure::P99(other) => ratio(other, Figure::P99),
            Measure::AddedP50(other) => Some(added(Who::Slotway)? / added(other)?),
            Measure::Cpu => median(Who::Slotway, Figure::Proxy),
            Measure::User => median(Who::Slotway, Figure::User),
            Measure::CpuOf(other) => {
                let other = results.median(other, Who::Slotway, Figure::Proxy)?;
                Some(median(Who::Slotway, Figure::Proxy)? / other)
            }
            Measure::Untouched => Some(idle()?.fresh),
            Measure::Used => Some(idle()?.used),
        }
    }

    pub(super) fn verdict(&self, measured: Option<f64>) -> Verdict {
        let reached = measured.map(|measured| match self.bound {
            Bound::AtLeast(bound) => measured >= bound,
            Bound::AtMost(bound) => measured <= bound,
        });
        match reached {
            Some(true) => Verdict::Ok,
            Some(false) => Verdict::Missed,
            None => Verdict::NotMeasured,
        }
    }
}

use Bound::{AtLeast, AtMost};
use Measure::{AddedP50, Cpu, CpuOf, P99, Rate, Untouched, Used, User};
use Who::{Direct, Haproxy};

#[rustfmt::skip]
pub(super) const TARGETS: &[Target] = &[
    Target::new("50-clients", Rate(Direct), AtLeast(0.85), "prototype .88, predixy .77").then(0.95),
    Target::new("50-clients", Rate(Haproxy), AtLeast(1.7), "prototype .88 / HAProxy .48 of direct"),
    Target::new("50-clients", Cpu, AtMost(5.2), "prototype 5.5 us, predixy 6.8"),
    Target::new("50-clients-1k", Rate(Direct), AtLeast(0.80), "set without a prototype").then(0.90),
    Target::new("50-clients-1k", Rate(Haproxy), AtLeast(1.4), "set without a prototype"),
    Target::new("pipeline-16", Rate(Direct), AtLeast(0.60), "prototype 590-653 of 1109 thousand").then(0.70),
    Target::new("pipeline-16", Rate(Haproxy), AtLeast(0.95), "prototype 590-653 / HAProxy 708 thousand"),
    Target::new("pipeline-16", Cpu, AtMost(0.50), "prototype .15 user + .35 system"),
    Target::new("pipeline-16", User, AtMost(0.15), "prototype .15 us"),
    Target::new("pipeline-100", Rate(Direct), AtLeast(0.80), "prototype 1100-1162 of 1469 thousand").then(0.90),
    Target::new("pipeline-100", Rate(Haproxy), AtLeast(0.90), "prototype 1100-1162 / HAProxy 1327 thousand"),
    Target::new("pipeline-100", Cpu, AtMost(0.20), "prototype .21 us, predixy .77"),
    Target::new("pipeline-100", User, AtMost(0.15), "prototype .15 us at pipeline 16"),
    Target::new("500-clients", Rate(Direct), AtLeast(1.0), "prototype .99, predixy .89").then(1.2),
    Target::new("500-clients", P99(Direct), AtMost(0.7), "prototype: lower than direct"),
    Target::new("500-clients", Rate(Haproxy), AtLeast(2.3), "prototype .99 / HAProxy .45 of direct"),
    Target::new("500-clients", Cpu, AtMost(5.2), "prototype 5.2 us, predixy 6.4"),
    Target::new("mget-10", Cpu, AtMost(9.0), "HAProxy 11.2 us, predixy 14.9, twemproxy 15.7"),
    Target::new("one-client", AddedP50(Haproxy), AtMost(1.0), "prototype 21-23 us, HAProxy 24"),
    Target::new("transactions", CpuOf("three-commands"), AtMost(1.5), "MULTI of three commands, by those alone"),
    Target::new("1-mib", Rate(Direct), AtLeast(0.50), "prototype: cut-through gave 6-21 % more").then(0.60),
    Target::new("1-mib", Rate(Direct), AtLeast(0.90), "twemproxy 1646 MB/s, HAProxy 1497"),
    Target::new("1-mib", Rate(Haproxy), AtLeast(1.0), "twemproxy 1646 MB/s, HAProxy 1497"),
    Target::new("1-mib", Cpu, AtMost(300.0), "twemproxy 315 us, HAProxy 330"),
    Target::new("hogs", P99(Direct), AtMost(1.0), "prototype 3.6 ms, direct 8.2"),
    Target::new(idle::NAME, Untouched, AtMost(2048.0), "prototype 1.8 KB, HAProxy 3374 B"),
    Target::new(idle::NAME, Used, AtMost(3072.0), "prototype 1.8 KB, twemproxy 6993 B"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::idle::Idle;
    use crate::load::results::{CpuEach, ProxyCpu, Sample};
    use crate::load::workloads::WORKLOADS;

    fn sample(per_second: f64, p50_ms: f64) -> Sample {
        let proxy = Some(ProxyCpu {
            user: 1.0,
            system: 4.0,
        });
        Sample {
            per_second,
            p50_ms,
            p99_ms: 2.0 * p50_ms,
            cpu: Some(CpuEach {
                proxy,
                servers: 3.0,
            }),
            generator: None,
        }
    }

    fn results() -> Results {
        let mut results = Results::default();
        // Of three rounds the one in the middle counts.
        for (direct, ours) in [(100.0, 10.0), (100.0, 88.0), (90.0, 1e9)] {
            results.add("50-clients", Direct, sample(direct, 0.010));
            results.add("50-clients", Who::Slotway, sample(ours, 0.030));
        }
        results.add("50-clients", Haproxy, sample(40.0, 0.035));
        results.idle.push(Idle {
            who: Who::Slotway,
            fresh: 1_500.0,
            used: 4_000.0,
        });
        results
    }

    #[track_caller]
    fn judge(measure: Measure, bound: Bound, expected: f64, verdict: Verdict) {
        let workload = match measure {
            Untouched | Used => idle::NAME,
            _ => "50-clients",
        };
        let target = Target::new(workload, measure, bound, "");
        let measured = target.measured(&results()).unwrap();
        assert!((measured - expected).abs() < 1e-9, "{measured}");
        assert_eq!(target.verdict(Some(measured)), verdict);
    }

    #[test]
    fn figures_are_compared_with_their_bounds() {
        judge(Rate(Direct), AtLeast(0.85), 0.88, Verdict::Ok);
        judge(Rate(Direct), AtLeast(0.89), 0.88, Verdict::Missed);
        judge(Rate(Haproxy), AtLeast(1.7), 2.2, Verdict::Ok);
        judge(P99(Direct), AtMost(0.7), 3.0, Verdict::Missed);
        judge(AddedP50(Haproxy), AtMost(1.0), 0.8, Verdict::Ok);
        judge(Cpu, AtMost(5.2), 5.0, Verdict::Ok);
        judge(User, AtMost(0.15), 1.0, Verdict::Missed);
        judge(CpuOf("50-clients"), AtMost(1.5), 1.0, Verdict::Ok);
        judge(Untouched, AtMost(2048.0), 1_500.0, Verdict::Ok);
        judge(Used, AtMost(3072.0), 4_000.0, Verdict::Missed);
    }

    #[test]
    fn what_was_not_measured_is_neither_ok_nor_missed() {
        let twemproxy = Target::new("50-clients", Rate(Who::Twemproxy), AtLeast(1.0), "");
        let left_out = Target::new("hogs", P99(Direct), AtMost(1.0), "");
        for target in [twemproxy, left_out] {
            let measured = target.measured(&results());
            assert_eq!(measured, None);
            assert_eq!(target.verdict(measured), Verdict::NotMeasured);
        }
    }

    #[test]
    fn every_target_is_of_a_workload_and_has_a_source() {
        for target in TARGETS {
            let mut names = WORKLOADS.iter().map(|workload| workload.name);
            let known = target.workload == idle::NAME || names.any(|name| name == target.workload);
            assert!(known, "{}", target.workload);
            assert!(!target.source.is_empty());
        }
    }
}
