//! How time passes: a little between other events, in a jump when the worker is held up, or in a spell of regular ticks in which the
//! network keeps up, so that only nodes that are silent are taken for silent.

use std::time::Duration;

use slotway_core::time::Timestamp;

use super::faults::Silence;
use super::model::Violation;
use super::profile::pick;
use super::world::{World, note};

/// The worker ticks at least this often while requests are outstanding; more than half a second counts as held up.
const LONGEST_TICK: Duration = Duration::from_millis(450);

/// Of a longer time between two ticks, only this much is silence of the nodes.
const HELD_UP: u64 = 500_000;

/// Times in one tick that everybody gets to read and write: enough for most of a handshake.
const TURNS: u32 = 2;

const SHORTEST_SPELL: u64 = 100_000;
/// No spell is made longer than this, or a run would consist of it.
const LONGEST_SPELL: u64 = 12_000_000;

impl World {
    pub(super) fn time_passes(&mut self) -> Result<(), Violation> {
        let micros = match self.rng.u32(..200) {
            0 if !self.profile.gentle => self.rng.u64(..3_000_000),
            1..=4 => self.rng.u64(..200_000),
            5..=40 => self.rng.u64(..20_000),
            _ => self.rng.u64(..500),
        };
        self.pass(micros)
    }

    pub(super) fn pass(&mut self, micros: u64) -> Result<(), Violation> {
        self.now += micros;
        self.awake += micros.min(HELD_UP);
        self.model.now = self.now;
        if self.profile.pubsub > 0 {
            self.land_late();
        }
        self.engine
            .set_now(Timestamp::ZERO.after(Duration::from_micros(self.now)));
        self.engine.tick();
        note!(self, "time is {}", self.now);
        self.collect_actions()
    }

    /// Begins a spell, most often with a node that is silent for about as long.
    pub(super) fn begin_spell(&mut self) {
        let limits = &self.profile.limits;
        let times = [
            limits.node_timeout,
            limits.node_timeout,
            limits.demoted_timeout,
            limits.busy_timeout,
        ];
        let time = u64::try_from(pick(&mut self.rng, &times).as_micros()).unwrap_or(0);
        let length = self
            .rng
            .u64(time / 2..time * 2)
            .clamp(SHORTEST_SPELL, LONGEST_SPELL);
        self.spell_until = self.now + length;
        note!(self, "a spell of {length} us");
        let faults = &self.profile.faults;
        let kinds: Vec<Silence> = [
            (faults.hang, Silence::Unreachable),
            (faults.freeze, Silence::Frozen),
            (faults.pause, Silence::Paused),
            (faults.restart, Silence::Restarted),
        ]
        .into_iter()
        .filter_map(|(weight, kind)| (weight > 0).then_some(kind))
        .collect();
        if !kinds.is_empty() && self.rng.u32(..4) > 0 {
            let kind = *pick(&mut self.rng, &kinds);
            let length = self.rng.u64(length / 2..length * 2);
            self.fall_silent(kind, length);
        }
    }

    /// One tick of a spell.
    pub(super) fn spell_tick(&mut self) -> Result<(), Violation> {
        let longest = (self.profile.limits.node_timeout / 3).min(LONGEST_TICK);
        let longest = u64::try_from(longest.as_micros()).unwrap_or(1_000);
        let micros = self.rng.u64(1_000..=longest);
        self.pass(micros)?;
        for _ in 0..TURNS {
            self.network_turn()?;
        }
        Ok(())
    }

    /// Nearly everybody reads and writes all there is.
    fn network_turn(&mut self) -> Result<(), Violation> {
        self.flush()?;
        if self.rng.u32(..4) == 0 {
            self.node_works_late()?;
        }
        for index in (0..self.pending.len()).rev() {
            if self.rng.u32(..8) > 0 {
                self.steps += 1;
                self.connect_one(index);
            }
        }
        for index in (0..self.connections.len()).rev() {
            if self.rng.u32(..8) > 0 {
                self.steps += 1;
                self.serve_connection(index)?;
            }
        }
        Ok(())
    }

    /// Both kernels, the node and the engine do all they can for a connection.
    pub(super) fn serve_connection(&mut self, index: usize) -> Result<(), Violation> {
        self.connections[index].blocked = false;
        self.write(index)?;
        self.deliver(index, self.connections[index].held())?;
        if self.connections[index].waiting.is_some() {
            let generous = self.rng.u32(..8) == 0;
            self.serve_waiter(index, generous)?;
        }
        let most = self.connections[index].replies.len();
        self.engine_reads_bytes(index, most);
        if self.end_connection(index) {
            return Ok(());
        }
        if self.connections[index].closing {
            self.close(index);
        }
        Ok(())
    }
}
