//! The real process, killed fifty times.

use std::path::PathBuf;

/// The program, as the chore built it or beside this test.
fn oxikube() -> PathBuf {
    let built = std::env::var_os("OXIKUBE_TEST_PROGRAMS").map(PathBuf::from);
    let beside = || {
        let own = std::env::current_exe().expect("a path");
        own.ancestors()
            .nth(2)
            .expect("a target directory")
            .to_owned()
    };
    let program = built.unwrap_or_else(beside).join("oxikube");
    assert!(
        program.exists(),
        "{} is missing: `cargo build -p oxikube`",
        program.display()
    );
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_nothing_and_invent_nothing() {
    let outcome = store_proof::kill::run(&oxikube(), 50, 1).await.unwrap();
    assert!(outcome.acknowledged > 1000, "{outcome:?}");
}
