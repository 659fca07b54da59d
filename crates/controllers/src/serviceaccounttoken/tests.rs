//! One table.

use expect_test::expect;

use std::sync::Arc;

use super::{SignToken, TokensController};
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
        &TokensController::default(),
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
        &TokensController::default(),
        &both,
        "team/t",
        &expect![[r#"
        because its service account exists
    "#]],
    );
    let another = both.replace("uid: robot-uid", "uid: former-uid");
    check(
        &TokensController::default(),
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
        &TokensController::default(),
        &opaque,
        "team/t",
        &expect![[r#"
        gone
    "#]],
    );
}

/// The token tells what it was asked for.
struct Plainly;

impl SignToken for Plainly {
    fn token(&self, namespace: &str, account: (&str, &str), secret: &str) -> Option<String> {
        Some(format!("{namespace}/{}/{}/{secret}", account.0, account.1))
    }
}

#[test]
fn tokens_are_made_where_they_are_missing() {
    let controller = TokensController {
        signer: Some(Arc::new(Plainly)),
        root_certificates: "root".into(),
    };
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: team, uid: robot-uid}}";
    let both = format!("{SECRET}\n---\n{account}");
    check(
        &controller,
        &both,
        "team/t",
        &expect![[r#"
        because it lacks its token, the API is asked for the rest
        confirm secrets team/t
        because it lacks its token
        update secrets team/t
    "#]],
    );
    let filled = both.replace(
        "type: kube",
        "data: {token: eA==, namespace: eA==, ca.crt: cm9vdA==}\ntype: kube",
    );
    check(
        &controller,
        &filled,
        "team/t",
        &expect![[r#"
        because its service account exists
    "#]],
    );
    // Its certificates are those of an authority that is gone.
    let former = filled.replace("cm9vdA==", "Zm9ybWVy");
    check(
        &controller,
        &former,
        "team/t",
        &expect![[r#"
        because the API server's certificates are others now, the API is asked for the rest
        confirm secrets team/t
        because the API server's certificates are others now
        update secrets team/t
    "#]],
    );
}
