//! Seats at the door of a level: waiting, and giving up.

use std::time::Duration;

use access::User;

use super::probe::{arrival, digest, standing};

#[tokio::test]
async fn who_waits_is_called_and_who_gives_up_leaves_no_trace() {
    let fairness = standing(12);
    let jane = User::new("jane", &["system:authenticated"]);
    let digest = digest(&jane);
    let current = fairness.current.load_full();
    let mut held = Vec::new();
    // As many as there are seats.
    while let Ok(permit) = arrival(&current, &digest, Duration::ZERO).seat().await {
        held.push(permit);
    }
    assert!(!held.is_empty());
    let patience = Duration::from_secs(20);
    let waiting = arrival(&current, &digest, patience).seat();
    tokio::pin!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    let table = fairness.dump("dump_requests", false).expect("a table");
    assert!(table.contains("jane"), "{table}");
    held.pop();
    let called = waiting.await.expect("a seat");
    // Somebody gives up after he was called, and before he heard of it.
    let mut gone = Box::pin(arrival(&current, &digest, patience).seat());
    assert!(futures::poll!(gone.as_mut()).is_pending());
    drop(called);
    drop(gone);
    let again = arrival(&current, &digest, Duration::ZERO).seat().await;
    assert!(again.is_ok());
    drop((again, held));
    let metrics = &mut String::new();
    fairness.render(metrics);
    let labels = "flow_schema=\"global-default\",priority_level=\"global-default\"";
    for (name, value) in [
        ("current_inqueue_requests", 0),
        ("current_executing_seats", 0),
        ("current_executing_requests", 0),
    ] {
        let line = format!("apiserver_flowcontrol_{name}{{{labels}}} {value}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert!(metrics.contains("reason=\"time-out\"} 1\n"), "{metrics}");
}
