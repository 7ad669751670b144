use super::*;

/// Settings with this limit of sessions, and a queue of two.
fn settings(max_sessions: Option<usize>) -> Route {
    let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Route { max_sessions, backlog: 1, ..Route::new(address(80), [address(81)]) }
}

fn listeners(limit: Option<usize>) -> Listeners<char> {
    let address = Address::Inet(([127, 0, 0, 1], 80).into());
    let mut listeners = Listeners::default();
    for (name, route) in ['a', 'b', 'c'].into_iter().zip(10..) {
        let index = listeners.next_index();
        assert_eq!(listeners.insert(name, address.clone(), address.clone(), AddressKey::Port(80)), index);
        listeners.lead(index, route, &settings(limit));
    }
    listeners
}

fn next(listeners: &mut Listeners<char>) -> Option<char> {
    listeners.next_waiting(true).map(|(_, name)| *name)
}

fn finished(listeners: &mut Listeners<char>) -> Vec<char> {
    let next = |listeners: &mut Listeners<char>| listeners.next_finished().map(|index| listeners.take(index));
    std::iter::from_fn(|| next(listeners)).collect()
}

#[test]
fn listeners_with_waiting_clients_take_turns() {
    let mut listeners = listeners(None);
    assert!(!listeners.is_waiting() && next(&mut listeners).is_none());
    listeners.set_waiting(0);
    listeners.set_waiting(2);
    listeners.set_waiting(0);
    let order: Vec<_> = (0..4).map(|_| next(&mut listeners).unwrap()).collect();
    assert_eq!(order, ['a', 'c', 'a', 'c']);
    listeners.set_empty(0, Time::START);
    assert_eq!(listeners.next_waiting(true), Some((2, &mut 'c')));
    listeners.set_empty(2, Time::START);
    assert!(!listeners.is_waiting() && next(&mut listeners).is_none());
    listeners.accept_the_rest_of_all();
    listeners.set_waiting(7);
    assert_eq!(listeners.next_waiting(true), Some((0, &mut 'a')));
    assert_eq!(listeners.take_all().collect::<Vec<_>>(), ['a', 'b', 'c']);
    listeners.set_waiting(0);
    assert!(!listeners.is_waiting() && next(&mut listeners).is_none());
}

#[test]
fn a_listener_is_finished_when_its_queue_is_empty_or_a_backlog_was_accepted() {
    let mut listeners = listeners(None);
    listeners.note_accepted(0);
    assert_eq!(finished(&mut listeners), [], "nothing is finished while it serves");
    listeners.accept_the_rest_of_all();
    listeners.set_empty(2, Time::START);
    listeners.note_accepted(0);
    listeners.note_accepted(1);
    // Asked again, it is no other backlog's length: a listener that is reloaded again and again closes too.
    listeners.accept_the_rest(0);
    listeners.accept_the_rest_of_all();
    assert_eq!(finished(&mut listeners), ['c']);
    listeners.note_accepted(0);
    assert_eq!(finished(&mut listeners), ['a']);
    assert_eq!((listeners.len(), listeners.is_waiting()), (1, true));
    listeners.set_waiting(0);
    assert_eq!(listeners.next_waiting(true), Some((1, &mut 'b')));
    assert_eq!(listeners.take_all().collect::<Vec<_>>(), ['b']);
    assert!(listeners.len() == 0 && !listeners.is_waiting());
}

#[test]
fn a_listener_that_is_about_to_close_stays_when_it_leads_somewhere_again() {
    let mut listeners = listeners(None);
    listeners.accept_the_rest(1);
    listeners.note_accepted(1);
    listeners.accept_the_rest_of_all();
    listeners.lead(1, 20, &settings(None));
    for _ in 0..9 {
        listeners.note_accepted(1);
    }
    assert_eq!(listeners.route(1), Some(20));
    listeners.set_empty(1, Time::START);
    assert_eq!(finished(&mut listeners), []);
}

#[test]
fn a_listener_whose_route_has_all_its_sessions_is_not_asked_until_one_ends() {
    let mut listeners = listeners(Some(2));
    for index in 0..3 {
        listeners.set_waiting(index);
    }
    for said in [None, Some(2)] {
        listeners.note_accepted(1);
        assert_eq!(listeners.note_limit(1, Time::START), said);
    }
    let order: Vec<_> = (0..4).map(|_| next(&mut listeners).unwrap()).collect();
    assert_eq!(order, ['a', 'c', 'a', 'c']);
    listeners.note_ended(1, None);
    assert_eq!((next(&mut listeners), next(&mut listeners), next(&mut listeners)), (Some('a'), Some('c'), Some('b')));
    listeners.note_accepted(1);
    assert_eq!((listeners.note_limit(1, Time::START), listeners.waiting.len()), (None, 2), "it was said");
    listeners.accept_the_rest_of_all();
    assert_eq!((finished(&mut listeners), listeners.waiting.len()), (vec![], 2), "its clients wait for room");
    listeners.lead(1, 20, &settings(Some(3)));
    assert_eq!(listeners.waiting.len(), 3);
    listeners.lead(1, 21, &settings(Some(1)));
    assert_eq!((listeners.waiting.len(), listeners.note_limit(1, Time::START)), (2, Some(1)));
}

#[test]
fn the_index_of_a_closed_listener_is_used_again() {
    let mut listeners = listeners(None);
    listeners.set_waiting(1);
    assert_eq!((listeners.take(1), listeners.is_waiting(), listeners.next_index()), ('b', false, 1));
    listeners.set_waiting(1);
    assert!(!listeners.is_waiting(), "a late event is for nobody");
    let address = Address::Inet(([127, 0, 0, 1], 81).into());
    assert_eq!(listeners.insert('d', address.clone(), address, AddressKey::Port(81)), 1);
    assert!(!listeners.is_waiting());
}

#[test]
fn a_listener_that_resets_is_asked_also_without_room_and_only_such_ones_then() {
    let mut listeners = listeners(Some(1));
    listeners.lead(1, 20, &Route { at_limit: AtLimit::Reset, ..settings(Some(1)) });
    for index in 0..3 {
        listeners.set_waiting(index);
        listeners.note_accepted(index);
    }
    assert!(listeners.is_waiting() && listeners.is_waiting_to_reset() && !listeners.has_room(1));
    let next = |listeners: &mut Listeners<char>, has_room| listeners.next_waiting(has_room).map(|(index, _)| index);
    assert_eq!((next(&mut listeners, true), next(&mut listeners, false)), (Some(1), Some(1)));
    listeners.note_ended(0, None);
    assert_eq!([true, false, true].map(|has_room| next(&mut listeners, has_room)), [Some(1), Some(1), Some(0)]);
    listeners.accept_the_rest(1);
    listeners.note_refused(1);
    assert_eq!(finished(&mut listeners), []);
    listeners.note_refused(1);
    assert_eq!((listeners.is_waiting_to_reset(), listeners.is_waiting()), (false, true));
    assert_eq!(finished(&mut listeners), ['b']);
    listeners.lead(0, 30, &Route { at_limit: AtLimit::Reset, ..settings(None) });
    assert_eq!((listeners.is_waiting_to_reset(), listeners.with_reset()), (true, 1));
    listeners.lead(0, 31, &settings(None));
    assert_eq!((listeners.is_waiting_to_reset(), listeners.with_reset()), (false, 0));
}

#[test]
fn sessions_of_a_client_address_are_counted_for_each_listener() {
    let mut listeners = listeners(None);
    let [one, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
    for (index, client) in [(0, one), (0, one), (0, other), (1, one)] {
        listeners.note_accepted(index);
        listeners.count_client(index, client);
    }
    assert_eq!(
        [(0, one), (0, other), (1, one), (2, one)].map(|(index, ip)| listeners.sessions_of(index, ip)),
        [2, 1, 1, 0]
    );
    listeners.note_ended(0, Some(one));
    listeners.note_ended(0, Some(other));
    assert_eq!(([one, other].map(|ip| listeners.sessions_of(0, ip)), listeners.client_addresses()), ([1, 0], 2));
}

#[test]
fn a_shorter_backlog_forgets_none_of_those_who_wait_by_the_longer_one() {
    let mut listeners = listeners(None);
    for backlog in [3, 1] {
        listeners.lead(0, 10, &Route { backlog, ..settings(None) });
    }
    listeners.accept_the_rest(0);
    for left in (0..4).rev() {
        listeners.note_accepted(0);
        assert_eq!(finished(&mut listeners).len(), usize::from(left == 0), "{left}");
    }
}
