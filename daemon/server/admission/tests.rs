use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const SETTINGS: Settings =
    Settings { slots: 16, closing: 1000, share: 4, unpermitted: Duration::from_secs(30) };

fn client(number: u32) -> Holder {
    Holder::Client(IpAddr::V4(Ipv4Addr::from_bits(number)))
}

/// An admission with its own clock.
struct World {
    admission: Admission,
    now: Instant,
}

impl World {
    fn new() -> Self {
        World { admission: Admission::new(SETTINGS), now: Instant::now() }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn admit(&mut self, number: u32) -> Decision {
        self.admission.admit(client(number), self.now)
    }

    /// Admits a connection and closes the one that it replaces; returns both.
    #[track_caller]
    fn enter(&mut self, number: u32) -> (Id, Option<Id>) {
        match self.admit(number) {
            Decision::Admitted(id) => (id, None),
            Decision::Replaces(id, victim) => {
                self.admission.release(victim.id);
                (id, Some(victim.id))
            }
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, id: Id, number: u32, permit: bool) {
        self.admission.begin(id, client(number), self.now);
        if permit {
            self.admission.permit(id, self.now);
        }
    }

    fn answer(&mut self, id: Id, number: u32, permit: bool) {
        self.begin(id, number, permit);
        self.admission.end(id, self.now);
    }

    /// Opens connections with requests in progress.
    #[track_caller]
    fn open(&mut self, number: u32, count: usize, permit: bool) -> Vec<Id> {
        let open = |_| {
            let (id, victim) = self.enter(number);
            assert_eq!(victim, None);
            self.begin(id, number, permit);
            id
        };
        (0..count).map(open).collect()
    }

    /// Opens idle connections without a permit until no slot is free.
    fn fill(&mut self, number: u32) -> Vec<Id> {
        let mut ids = Vec::new();
        while let Decision::Admitted(id) = self.admit(number) {
            self.answer(id, number, false);
            ids.push(id);
        }
        ids
    }

    fn live(&self) -> usize {
        self.admission.connections.len()
    }
}

#[test]
fn one_address_may_use_all_free_slots_but_the_reserve() {
    let mut world = World::new();
    world.open(1, 14, false);
    assert_eq!(world.admit(1), Decision::Refused);
    world.open(2, 1, false);
    world.pass(10);
    // Its second connection evicts one of the address with the most.
    assert!(world.enter(2).1.is_some());
}

#[test]
fn untrusted_address_with_all_slots_is_evicted_for_every_other_address() {
    let mut world = World::new();
    for number in 2..40 {
        let held = world.fill(1);
        world.pass(18);
        for id in &held {
            world.answer(*id, 1, false);
        }
        let (id, victim) = world.enter(number);
        assert_eq!(victim, None, "half of the reserve is free for a new address");
        let (second, victim) = world.enter(number);
        let known = world.admission.counts[&client(1)];
        assert!(victim.is_none_or(|_| known < 14), "an address with fewer connections is evicted");
        for id in held.into_iter().chain([id, second]) {
            world.admission.release(id);
        }
    }
}

#[test]
fn eviction_takes_connections_without_a_permit_first_and_idle_ones_before_busy_ones() {
    let mut world = World::new();
    let idle_permitted = world.open(1, 1, true)[0];
    world.admission.end(idle_permitted, world.now);
    let [idle_refused, busy_refused] = world.open(2, 2, false)[..] else { panic!() };
    world.admission.end(idle_refused, world.now);
    for number in 3..16 {
        world.admission.trusted.put(client(number), world.now);
        world.open(number, 1, true);
    }
    world.pass(10);
    for expected in [idle_refused, busy_refused, idle_permitted] {
        world.admission.trusted.put(client(50), world.now);
        let (id, victim) = world.enter(50);
        world.begin(id, 50, true);
        assert_eq!(victim, Some(expected));
    }
    assert_eq!(world.admit(51), Decision::Refused, "transfers stay");
}

#[test]
fn transfer_with_a_permit_is_not_evicted_for_an_untrusted_address() {
    let mut world = World::new();
    world.open(1, 14, true);
    world.open(2, 2, true);
    assert_eq!(world.admit(50), Decision::Refused);
}

#[test]
fn transfer_beyond_the_share_is_evicted_for_a_trusted_address() {
    let mut world = World::new();
    world.admission.trusted.put(client(9), world.now);
    let many = world.open(1, 14, true);
    world.open(2, 2, true);
    assert!(world.enter(9).1.is_some_and(|victim| many.contains(&victim)));

    let mut world = World::new();
    world.admission.trusted.put(client(9), world.now);
    for number in 1..=4 {
        world.admission.trusted.put(client(number), world.now);
        world.open(number, 4, true);
    }
    assert_eq!(world.admit(9), Decision::Refused, "an address within its share keeps its transfers");
}

#[test]
fn trusted_address_evicts_an_untrusted_one() {
    let mut world = World::new();
    let known = world.enter(9).0;
    world.answer(known, 9, true);
    for number in 100..200 {
        world.admit(number);
    }
    assert_eq!(world.live(), 15, "an untrusted address leaves half of the reserve");
    for _ in 0..4 {
        world.pass(1);
        let (id, victim) = world.enter(9);
        world.begin(id, 9, true);
        assert_ne!(victim, Some(known));
    }
    assert!(world.live() <= 16);
}

#[test]
fn trust_expires_after_an_hour_and_its_table_is_bounded() {
    let mut world = World::new();
    let id = world.enter(1).0;
    for number in 0..5000 {
        world.begin(id, number, true);
        world.now += Duration::from_millis(1);
    }
    assert_eq!(world.admission.trusted.len(), TRUSTED_HOLDERS);
    assert!(world.admission.trusts(client(4999), world.now));
    assert!(!world.admission.trusts(client(0), world.now));
    world.pass(3600);
    assert!(!world.admission.trusts(client(4999), world.now));
}

#[test]
fn idle_connections_without_a_permit_expire_only_when_slots_are_short() {
    let mut world = World::new();
    let mut held: Vec<Id> = (0..11).map(|_| world.enter(1).0).collect();
    for seconds in [0, 18, 18] {
        world.pass(seconds);
        for id in &held {
            world.answer(*id, 1, false);
        }
    }
    assert!(world.admission.expire(world.now).is_empty());
    let permitted = world.enter(2).0;
    world.answer(permitted, 2, true);
    let mut expired: Vec<Id> = world.admission.expire(world.now).iter().map(|victim| victim.id).collect();
    expired.sort_unstable();
    held.sort_unstable();
    assert_eq!(expired, held);
}

#[test]
fn clients_behind_a_trusted_proxy_count_separately() {
    let mut world = World::new();
    let ids: Vec<Id> = (0..16)
        .map(|_| match world.admission.admit(Holder::Proxy, world.now) {
            Decision::Admitted(id) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    for id in &ids[..12] {
        world.answer(*id, 1, false);
    }
    for (number, id) in (2..).zip(&ids[12..]) {
        world.answer(*id, number, true);
    }
    for _ in 0..8 {
        let decision = world.admission.admit(Holder::Proxy, world.now);
        let Decision::Replaces(id, victim) = decision else { panic!("{decision:?}") };
        assert!(ids[..12].contains(&victim.id));
        world.admission.release(victim.id);
        world.begin(id, 3, true);
    }
}

#[test]
fn shed_evicts_an_idle_connection_and_no_transfer() {
    let mut world = World::new();
    let busy = world.enter(1).0;
    world.begin(busy, 1, true);
    let idle = world.enter(1).0;
    world.answer(idle, 1, true);
    assert_eq!(world.admission.shed(world.now), Some(Victim { id: idle, idle: true }));
    assert_eq!(world.admission.shed(world.now), None);
}

#[test]
fn evicted_connections_still_open_are_bounded() {
    let mut world = World::new();
    world.admission.settings.closing = 2;
    world.open(1, 14, false);
    world.open(2, 1, false);
    world.pass(10);
    let decisions: Vec<Decision> = (3..6).map(|number| world.admit(number)).collect();
    let replaced = decisions.iter().filter(|decision| matches!(decision, Decision::Replaces(..))).count();
    assert_eq!((replaced, decisions[2]), (2, Decision::Later), "{decisions:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Admit(u32),
    Begin(usize, bool),
    End(usize),
    Release(usize),
    Expire,
    Shed,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u32..6).prop_map(Step::Admit),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(at, permit)| Step::Begin(at, permit)),
        2 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::Release),
        1 => Just(Step::Expire),
        1 => Just(Step::Shed),
        1 => (0u64..40).prop_map(Step::Pass),
    ]
}

/// Admits a connection and checks the decision.
fn check_admission(world: &mut World, number: u32) {
    let before = world.admission.connections.clone();
    let counts = world.admission.counts.clone();
    let trusted = world.admission.trusts(client(number), world.now);
    let count = |holder| counts.get(&holder).copied().unwrap_or_default();
    let trusting: Vec<Holder> =
        counts.keys().copied().filter(|holder| world.admission.trusts(*holder, world.now)).collect();
    let now = world.now;
    let is_protected = |connection: &Connection| {
        let has_begun = connection.phase != Phase::Idle && now - connection.since < FRESH;
        has_begun && trusting.contains(&connection.holder) && count(connection.holder) <= SETTINGS.share
    };
    match world.admit(number) {
        Decision::Later => panic!("evicted connections are not bounded here"),
        Decision::Replaces(_, victim) => {
            let victim = before[&victim.id];
            assert!(!victim.is_transfer() || (trusted && count(victim.holder) > SETTINGS.share));
            let own = victim.holder == client(number);
            let is_fair = count(victim.holder) > count(client(number));
            assert!(
                own || trusted || is_fair,
                "an address with more connections evicted one of an address with fewer"
            );
            assert!(
                trusted || !is_protected(&victim),
                "an untrusted address evicted a handshake of a trusted one"
            );
        }
        Decision::Refused if count(client(number)) == 0 => {
            let is_kept = |one: &Connection| one.is_transfer() || (!trusted && is_protected(one));
            assert!(before.values().all(is_kept), "a new address was refused");
        }
        Decision::Admitted(_) | Decision::Refused => {}
    }
}

#[test]
fn flood_from_many_addresses_does_not_evict_a_handshake_of_a_trusted_one() {
    let mut world = World::new();
    let (known, _) = world.enter(1);
    world.answer(known, 1, true);
    world.admission.release(known);
    for number in 100..116 {
        world.admit(number);
    }
    // A trusted address gets a slot, and keeps it until its first request.
    let (id, _) = world.enter(1);
    for number in 200..300 {
        if let Decision::Replaces(_, victim) = world.admit(number) {
            assert_ne!(victim.id, id);
            world.admission.release(victim.id);
        }
    }
    assert!(world.admission.connections.contains_key(&id));
}

proptest! {
    #[test]
    fn any_sequence_of_steps_keeps_the_limits(steps in proptest::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        for step in steps {
            let ids: Vec<Id> = world.admission.connections.keys().copied().collect();
            let at = |at: usize| ids.get(at % ids.len().max(1)).copied().unwrap_or_default();
            match step {
                Step::Admit(number) => check_admission(&mut world, number),
                Step::Begin(id, permit) => {
                    let id = at(id);
                    let known = world.admission.connections.get(&id);
                    if let Some(Connection { holder, .. }) = known.copied() {
                        world.admission.begin(id, holder, world.now);
                        if permit {
                            world.admission.permit(id, world.now);
                        }
                    }
                }
                Step::End(id) => world.admission.end(at(id), world.now),
                Step::Release(id) => world.admission.release(at(id)),
                Step::Expire => drop(world.admission.expire(world.now)),
                Step::Shed => drop(world.admission.shed(world.now)),
                Step::Pass(seconds) => world.pass(seconds),
            }
            prop_assert!(world.live() <= SETTINGS.slots);
            let mut counted: HashMap<Holder, usize> = HashMap::new();
            for connection in world.admission.connections.values() {
                *counted.entry(connection.holder).or_default() += 1;
            }
            prop_assert_eq!(&counted, &world.admission.counts);
            prop_assert!(world.admission.trusted.len() <= TRUSTED_HOLDERS);
        }
    }
}
