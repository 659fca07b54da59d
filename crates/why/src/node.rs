//! Why a node is not ready or takes no pods.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};

use crate::answer::{Answer, Cause};
use crate::events;
use crate::picture::Picture;

/// Explains the node that is the subject.
pub(crate) fn answer(picture: &Picture) -> Answer {
    let node: Node = picture.subject_as();
    let mut causes: Vec<Cause> = cause(picture, &node).into_iter().collect();
    let ready = causes.is_empty();
    causes.extend(closed(&node));
    causes.extend(events::causes(picture, picture.subject.uid()));
    let headline = match (ready, causes.is_empty()) {
        (true, true) => "it is ready and takes pods",
        (true, false) => "it is ready",
        (false, _) => "it is not ready",
    };
    Answer::new(headline, causes)
}

/// What is wrong with the node itself; `None` when it is ready.
pub(crate) fn cause(picture: &Picture, node: &Node) -> Option<Cause> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let conditions = || conditions.into_iter().flatten();
    let Some(ready) = conditions().find(|c| c.type_ == "Ready") else {
        let what = format!("node {name} has no kubelet that reports");
        return Some(Cause::new(what).advise("start a kubelet of this name, or delete the node"));
    };
    let words = ready.message.clone().unwrap_or_default();
    match ready.status.as_str() {
        "True" => None,
        "Unknown" => {
            let seen = silence(picture, name);
            Some(
                Cause::new(format!("node {name} has fallen silent{seen}"))
                    .detail(words)
                    .advise(format!("see whether the machine and its kubelet run; start it again: oxikube node start {name}")),
            )
        }
        _ => Some(
            Cause::new(format!("node {name} is not ready"))
                .detail(words)
                .from(conditions().filter_map(pressure)),
        ),
    }
}

fn silence(picture: &Picture, name: &str) -> String {
    let leases: Vec<Lease> = picture.of();
    let mine = leases
        .iter()
        .find(|l| l.metadata.name.as_deref() == Some(name));
    let renewed = mine.and_then(|l| l.spec.as_ref()?.renew_time.as_ref());
    let since = renewed.map(|t| picture.now.duration_since(t.0).as_secs().max(0));
    since
        .map(|s| format!(": its lease was renewed {s}s ago"))
        .unwrap_or_default()
}

fn pressure(condition: &NodeCondition) -> Option<Cause> {
    let bad = condition.type_ != "Ready" && condition.status == "True";
    bad.then(|| {
        let cause = Cause::new(format!("condition {} is True", condition.type_));
        cause.detail(condition.message.clone().unwrap_or_default())
    })
}

/// Why it takes no pods although it may be ready.
fn closed(node: &Node) -> Vec<Cause> {
    let spec = node.spec.clone().unwrap_or_default();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let mut causes = Vec::new();
    if spec.unschedulable == Some(true) {
        causes.push(
            Cause::new("it is cordoned: no new pods come here")
                .advise(format!("kubectl uncordon {name}")),
        );
    }
    let automatic = |key: &str| key.starts_with("node.kubernetes.io/");
    for taint in spec.taints.iter().flatten().filter(|t| !automatic(&t.key)) {
        let value = taint.value.as_deref().filter(|v| !v.is_empty());
        let value = value.map(|v| format!("={v}")).unwrap_or_default();
        causes.push(Cause::new(format!(
            "taint {}{value}:{}: only pods that tolerate it come here",
            taint.key, taint.effect
        )));
    }
    causes
}
