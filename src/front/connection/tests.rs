//! What a connection notes, step by step.

use super::*;

#[test]
fn a_byte_after_an_answer_begins_a_head() {
    let common = Rc::new(Common { now: Cell::new(3), ..Common::default() });
    let connection = Rc::new(Connection::new(common.clone(), 0));
    connection.note_bytes();
    let request = connection.begin(true);
    assert_eq!(connection.times().phase, ConnectionPhase::Busy);
    drop(request);
    assert_eq!(connection.times().phase, ConnectionPhase::Idle);
    common.now.set(9);
    connection.note_bytes();
    common.now.set(12);
    connection.note_bytes();
    assert_eq!((connection.times().phase, connection.times().since), (ConnectionPhase::Head, 9));
}

#[test]
fn frames_alone_leave_a_connection_idle_and_must_be_whole_in_time() {
    let common = Rc::new(Common { now: Cell::new(3), ..Common::default() });
    let connection = Rc::new(Connection::new(common.clone(), 0));
    connection.enter(ConnectionPhase::Idle);
    let at = |tick, whole| {
        common.now.set(tick);
        connection.heard_frames(whole);
        (connection.times().phase, connection.times().since)
    };
    assert_eq!(at(5, true), (ConnectionPhase::Idle, 3));
    assert_eq!(at(7, false), (ConnectionPhase::Head, 7));
    assert_eq!(at(8, false), (ConnectionPhase::Head, 7));
    assert_eq!(at(9, true), (ConnectionPhase::Idle, 3));
}
