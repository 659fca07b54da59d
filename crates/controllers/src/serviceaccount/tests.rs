//! One table.

use expect_test::expect;

use super::ServiceAccountsController;
use crate::harness::check;

#[test]
fn an_active_namespace_gets_its_account() {
    let active = "
apiVersion: v1
kind: Namespace
metadata: {name: team}
status: {phase: Active}
";
    let account = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: team}
";
    check(
        &ServiceAccountsController,
        active,
        "team",
        &expect![[r#"
        because the default service account is missing
        create serviceaccounts team/default
    "#]],
    );
    let both = format!("{active}\n---\n{account}");
    check(
        &ServiceAccountsController,
        &both,
        "team",
        &expect![[r#"
        because the default service account is there
    "#]],
    );
    let leaving = active.replace("Active", "Terminating");
    check(
        &ServiceAccountsController,
        &leaving,
        "team",
        &expect![[r#"
        because the namespace is not active
    "#]],
    );
}
