//! One table.

use expect_test::expect;

use super::TokensController;
use crate::harness::check;

const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata:
  name: t
  namespace: team
  annotations:
    kubernetes.io/service-account.name: robot
    kubernetes.io/service-account.uid: robot-uid
type: kubernetes.io/service-account-token
";

#[test]
fn tokens_go_with_their_account() {
    check(
        &TokensController,
        SECRET,
        "team/t",
        &expect![[r#"
        because its service account is missing, the API is asked
        confirm serviceaccounts team/robot
        because its service account is gone
        delete secrets team/t
    "#]],
    );
    let account =
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: team}}";
    let both = format!("{SECRET}\n---\n{account}");
    check(
        &TokensController,
        &both,
        "team/t",
        &expect![[r#"
        because its service account exists
    "#]],
    );
    let another = both.replace("uid: robot-uid", "uid: former-uid");
    check(
        &TokensController,
        &another,
        "team/t",
        &expect![[r#"
        because its service account is missing, the API is asked
        confirm serviceaccounts team/robot
        because its service account is gone
        delete secrets team/t
    "#]],
    );
    let opaque = SECRET.replace("type: kubernetes.io/service-account-token", "type: Opaque");
    check(
        &TokensController,
        &opaque,
        "team/t",
        &expect![[r#"
        gone
    "#]],
    );
}
