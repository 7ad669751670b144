use super::*;

fn at(millis: u64) -> Time {
    Time::START + Duration::from_millis(millis)
}

fn bounds(places: usize, attempts: u32, deadline: u64) -> Bounds {
    Bounds { places, attempts, deadline: at(deadline) }
}

fn dial(until: u64, may_be_quick: bool) -> Step {
    Step::Dial { until: at(until), may_be_quick }
}

/// One session's attempts, with up to 3 addresses.
struct Rig {
    attempts: Attempts,
    bounds: Bounds,
    rng: Rng,
}

impl Rig {
    fn new(places: usize, attempts: u32, deadline: u64) -> Self {
        Self { attempts: Attempts::default(), bounds: bounds(places, attempts, deadline), rng: Rng::with_seed(1) }
    }

    fn next(&mut self, now: u64) -> Step {
        self.attempts.next(self.bounds, at(now), &mut self.rng)
    }

    fn fail(&mut self, place: usize, quick: bool, failure: Failure) {
        assert!(!self.attempts.is_tried(place), "{place} is tried again");
        self.attempts.dials(place, quick);
        self.attempts.failed(self.bounds.places, failure);
    }

    fn untried(&self) -> Vec<usize> {
        (0..self.bounds.places).filter(|place| !self.attempts.is_tried(*place)).collect()
    }
}

#[test]
fn each_address_gets_an_equal_share_of_what_is_left() {
    let mut rig = Rig::new(3, 1, 900);
    assert_eq!(rig.next(0), dial(300, true));
    rig.fail(0, false, Failure::TooSlow);
    // The first failed early.
    assert_eq!(rig.next(100), dial(500, true));
    rig.fail(2, false, Failure::Other);
    assert_eq!((rig.next(500), rig.untried()), (dial(900, false), vec![1]));
    rig.fail(1, false, Failure::TooSlow);
    assert_eq!(rig.next(600), Step::GiveUp);
}

#[test]
fn an_address_that_was_not_tried_is_next_again() {
    let mut rig = Rig::new(1, 1, 900);
    assert_eq!([rig.next(0), rig.next(100)], [dial(900, false); 2]);
}

#[test]
fn what_was_too_slow_is_tried_again_with_an_equal_share_once() {
    let mut rig = Rig::new(3, 1, 1000);
    rig.next(0);
    rig.fail(0, true, Failure::TooSlow);
    // The share of one that is untried leaves time for the second pass.
    assert_eq!(rig.next(250), dial(500, true));
    rig.fail(1, true, Failure::TooSlow);
    assert_eq!(rig.next(400), dial(600, false));
    rig.fail(2, false, Failure::Other);
    assert_eq!((rig.next(400), rig.untried()), (dial(700, false), vec![0, 1]));
    rig.fail(1, false, Failure::TooSlow);
    assert_eq!((rig.next(700), rig.untried()), (dial(1000, false), vec![0]));
    rig.fail(0, false, Failure::TooSlow);
    assert_eq!(rig.next(800), Step::GiveUp);
}

#[test]
fn a_pause_stands_between_attempts_and_doubles() {
    let mut rig = Rig::new(1, 3, 100_000);
    let mut now = 0;
    for (least, most) in [(50, 150), (100, 300)] {
        assert!(matches!(rig.next(now), Step::Dial { .. }));
        rig.fail(0, false, Failure::Other);
        let Step::Pause { until } = rig.next(now) else { panic!("there is to be a pause") };
        let pause = until.since(at(now)).as_millis();
        assert!((least..=most).contains(&pause) && rig.attempts.is_fresh(), "{pause}");
        now += 300;
    }
    rig.next(now);
    rig.fail(0, false, Failure::Other);
    assert_eq!(rig.next(now), Step::GiveUp);
}

#[test]
fn an_address_without_a_port_is_tried_again_once_the_others_are_and_they_are_not() {
    let mut rig = Rig::new(4, 1, 900);
    rig.next(0);
    rig.fail(0, false, Failure::Other);
    rig.fail(1, false, Failure::NoPort);
    rig.fail(3, true, Failure::TooSlow);
    rig.fail(2, false, Failure::NoPort);
    assert_eq!((rig.next(0), rig.untried()), (dial(900, false), vec![3]));
    rig.fail(3, false, Failure::TooSlow);
    assert_eq!(rig.next(0), Step::AwaitPort { place: 1 });
    assert_eq!((rig.next(0), rig.untried()), (dial(450, false), vec![1, 2]));
    rig.fail(1, false, Failure::Other);
    rig.fail(2, false, Failure::NoPort);
    assert_eq!(rig.next(0), Step::AwaitPort { place: 2 });
    assert!(matches!(rig.next(0), Step::Dial { .. }));
    rig.fail(2, false, Failure::Other);
    assert_eq!(rig.next(0), Step::GiveUp);
}

#[test]
fn a_full_backlog_is_tried_again_until_the_deadline_and_costs_no_attempt() {
    let mut rig = Rig::new(3, 1, 1000);
    rig.next(0);
    rig.fail(0, false, Failure::Other);
    rig.fail(1, false, Failure::Full);
    assert_eq!((rig.next(0), rig.untried()), (dial(1000, false), vec![2]), "the others come first");
    rig.fail(2, false, Failure::NoPort);
    let mut now = 0;
    for pause in [10, 20, 40, 80, 100, 100] {
        assert_eq!(rig.next(now), Step::AwaitBacklog { until: at(now + pause) });
        now += pause;
        assert_eq!(rig.untried(), [1, 2]);
        assert!(matches!(rig.next(now), Step::Dial { .. }));
        rig.fail(1, false, Failure::Full);
        rig.fail(2, false, Failure::NoPort);
    }
    assert_eq!(rig.next(950), Step::AwaitBacklog { until: at(1000) });
    assert_eq!(rig.next(1000), Step::GiveUp);
}

#[test]
fn new_addresses_are_all_untried() {
    let mut rig = Rig::new(2, 1, 900);
    rig.attempts.set_version(7);
    rig.next(0);
    rig.fail(0, false, Failure::Other);
    rig.attempts.set_version(7);
    assert_eq!(rig.untried(), [1]);
    rig.attempts.set_version(8);
    assert!(rig.attempts.is_fresh() && rig.untried() == [0, 1]);
    // Also in the second pass: what is new has its short time.
    rig.fail(0, true, Failure::TooSlow);
    rig.fail(1, false, Failure::Other);
    assert_eq!(rig.next(0), dial(900, false));
    rig.attempts.set_version(9);
    assert_eq!(rig.next(0), dial(450, true));
}

#[test]
fn a_pause_is_at_most_a_second() {
    let mut rig = Rig::new(1, 100, 100_000);
    rig.attempts.failures = 20;
    rig.fail(0, false, Failure::Other);
    let Step::Pause { until } = rig.next(0) else { panic!("there is to be a pause") };
    assert!((at(333)..=at(1000)).contains(&until), "{until:?}");
}

#[test]
fn nothing_begins_at_the_deadline_and_no_pause_outlasts_it() {
    let mut rig = Rig::new(1, 3, 900);
    assert_eq!(rig.next(900), Step::GiveUp);
    rig.fail(0, false, Failure::Other);
    assert_eq!(rig.next(880), Step::GiveUp);
}
