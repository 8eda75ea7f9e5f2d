use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::ZERO;

#[derive(Debug, Clone)]
enum Step {
    Hold(Kind, u8),
    Release(usize),
    Join(usize, u32),
    Leave(usize, u32),
    Place(usize, u32),
    Unplace(usize, u32),
    Forget(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let step = prop_oneof![
        (kind, 0..6_u8).prop_map(|(kind, name)| Step::Hold(kind, name)),
        any::<usize>().prop_map(Step::Release),
        (any::<usize>(), 0..5_u32).prop_map(|(topic, session)| Step::Join(topic, session)),
        (any::<usize>(), 0..5_u32).prop_map(|(topic, session)| Step::Leave(topic, session)),
        (any::<usize>(), 0..3_u32).prop_map(|(topic, node)| Step::Place(topic, node)),
        (any::<usize>(), 0..3_u32).prop_map(|(topic, node)| Step::Unplace(topic, node)),
        any::<usize>().prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 0..120)
}

/// What a topic should be.
#[derive(Debug, Default)]
struct Expected {
    holds: u32,
    sessions: BTreeSet<SessionKey>,
    nodes: BTreeSet<NodeKey>,
}

type Model = BTreeMap<(Kind, u8), Expected>;

fn chosen(model: &Model, number: usize) -> Option<(Kind, u8)> {
    let index = number.checked_rem(model.len())?;
    model.keys().nth(index).copied()
}

fn run(registry: &mut Registry, model: &mut Model, step: &Step) {
    let topic = match step {
        Step::Hold(kind, name) => {
            registry.hold(*kind, &[*name]);
            model.entry((*kind, *name)).or_default().holds += 1;
            return;
        }
        Step::Release(topic)
        | Step::Forget(topic)
        | Step::Join(topic, _)
        | Step::Leave(topic, _)
        | Step::Place(topic, _)
        | Step::Unplace(topic, _) => *topic,
    };
    let Some((kind, name)) = chosen(model, topic) else {
        return;
    };
    let key = registry.find(kind, &[name]).unwrap();
    let expected = model.get_mut(&(kind, name)).unwrap();
    match step {
        Step::Release(_) if expected.holds > 0 => {
            registry.release(key, NOW);
            expected.holds -= 1;
        }
        Step::Join(_, session) => {
            let session = SessionKey::new(*session);
            assert_eq!(
                registry.join(key, session),
                expected.sessions.insert(session)
            );
        }
        Step::Leave(_, session) => {
            let session = SessionKey::new(*session);
            registry.leave(key, session, NOW);
            expected.sessions.remove(&session);
        }
        Step::Place(_, node) if expected.nodes.insert(NodeKey::new(*node)) => {
            registry.add_place(key, NodeKey::new(*node), NOW);
        }
        Step::Unplace(_, node) => {
            let node = NodeKey::new(*node);
            let place = registry.remove_place(key, node);
            assert_eq!(place.is_some(), expected.nodes.remove(&node));
        }
        Step::Forget(_) => {
            let is_over =
                expected.holds == 0 && expected.sessions.is_empty() && expected.nodes.is_empty();
            registry.forget_if_over(key);
            assert_eq!(registry.contains(key), !is_over);
            if is_over {
                model.remove(&(kind, name));
            }
        }
        Step::Hold(..) | Step::Release(_) | Step::Place(..) => {}
    }
}

fn compare(registry: &Registry, model: &Model) {
    registry.check();
    assert_eq!(registry.len(), model.len());
    for ((kind, name), expected) in model {
        let topic = &registry[registry.find(*kind, &[*name]).unwrap()];
        assert_eq!((topic.kind, &*topic.name), (*kind, &[*name][..]));
        assert_eq!(topic.holds(), expected.holds);
        assert!(topic.subscribers().iter().eq(&expected.sessions));
        let nodes: BTreeSet<NodeKey> = topic.places().iter().map(|place| place.node).collect();
        assert_eq!(nodes, expected.nodes);
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_registry_is_what_a_plain_model_says(steps in steps()) {
        let mut registry = Registry::default();
        let mut model = Model::new();
        for step in &steps {
            run(&mut registry, &mut model, step);
            compare(&registry, &model);
        }
    }
}

#[test]
fn a_topic_is_unused_from_its_last_user_on() {
    let mut registry = Registry::default();
    let later = NOW.after(Duration::from_secs(3));
    let (one, two) = (SessionKey::new(1), SessionKey::new(2));
    let key = registry.hold(Kind::Channel, b"c");
    registry.join(key, two);
    registry.join(key, one);
    registry.release(key, NOW);
    assert_eq!(registry[key].subscribers(), [one, two]);
    registry.leave(key, one, NOW);
    assert_eq!(registry[key].unused_since(), Timestamp::NEVER);
    registry.leave(key, two, later);
    assert_eq!(registry[key].unused_since(), later);
    let second = Duration::from_secs(1);
    assert_eq!(registry.take_unused(later, second), []);
    assert_eq!(registry.take_unused(later.after(second), second), [key]);
    assert_eq!(
        registry.take_unused(later.after(second), second),
        [],
        "each once"
    );
    registry.forget_if_over(key);
    assert_eq!((registry.len(), registry.bytes()), (0, 0));
}

#[test]
fn the_source_of_a_topic_goes_with_its_place() {
    let mut registry = Registry::default();
    let key = registry.hold(Kind::Shard, b"c");
    let [a, b] = [1, 2].map(NodeKey::new);
    registry.add_place(key, a, NOW);
    registry.add_place(key, b, NOW);
    registry[key].source = Some(b);
    registry.remove_place(key, a);
    assert_eq!(registry[key].source, Some(b));
    registry.remove_place(key, b);
    assert_eq!(registry[key].source, None);
    assert_eq!((registry.placed_at(a), registry.placed_at(b)), (0, 0));
}
