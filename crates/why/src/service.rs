//! Why a service leads nowhere.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::labels::Selector;

use crate::answer::{Answer, Cause};
use crate::picture::Picture;
use crate::{events, pod};
use controllers::pods;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Explains the service that is the subject.
pub(crate) fn answer(picture: &Picture) -> Answer {
    let service: Service = picture.subject_as();
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        let name = spec.external_name.unwrap_or_default();
        let headline = format!("it is another name for {name}: it has no end points");
        return Answer::new(headline, Vec::new());
    }
    let ready = ready(picture, &service);
    let mut causes = Vec::new();
    let selector = spec.selector.clone().filter(|s| !s.is_empty());
    match &selector {
        Some(selector) => causes.extend(selected(picture, &service, selector, ready)),
        None if ready == 0 => causes.push(own_end_points(picture, &service)),
        None => {}
    }
    causes.extend(balancer(&service));
    causes.extend(events::causes(picture, picture.subject.uid()));
    let headline = match ready {
        0 => "it has no end point that is ready: whoever asks it is refused".to_owned(),
        1 => "it leads to 1 end point".to_owned(),
        n => format!("it leads to {n} end points"),
    };
    Answer::new(headline, causes)
}

/// How many addresses of its slices serve.
fn ready(picture: &Picture, service: &Service) -> usize {
    let slices: Vec<EndpointSlice> = picture.of();
    let mine = slices.iter().filter(|slice| {
        let labels = slice.metadata.labels.as_ref();
        slice.metadata.namespace == service.metadata.namespace
            && labels.and_then(|l| l.get(SERVICE_NAME)) == service.metadata.name.as_ref()
    });
    let serves = |e: &Endpoint| e.conditions.as_ref().is_none_or(|c| c.ready != Some(false));
    mine.flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(|e| serves(e))
        .count()
}

fn selected(
    picture: &Picture,
    service: &Service,
    selector: &BTreeMap<String, String>,
    ready: usize,
) -> Vec<Cause> {
    let namespace = service.metadata.namespace.as_deref();
    let all: Vec<Pod> = picture.of();
    let all: Vec<&Pod> = all
        .iter()
        .filter(|p| p.metadata.namespace.as_deref() == namespace)
        .collect();
    let wanted = Selector::from_map(selector);
    let chosen: Vec<&&Pod> = all
        .iter()
        .filter(|p| wanted.matches_map(p.metadata.labels.as_ref()) && !pods::is_terminal(p))
        .collect();
    if chosen.is_empty() {
        return vec![nobody(&all, selector)];
    }
    let mut causes: Vec<Cause> = chosen
        .iter()
        .filter_map(|p| pod::cause(picture, p))
        .collect();
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    causes.extend(ports.filter_map(|port| nameless(port, &chosen)));
    if causes.is_empty() && ready == 0 {
        causes.push(Cause::new("its pods are ready; the slices have not been written yet").advise(
            "if this stays so the controller manager does not run: look at its lease and its log",
        ));
    }
    causes
}

/// No pod has all the labels; the one that has most of them shows what is amiss.
fn nobody(all: &[&Pod], selector: &BTreeMap<String, String>) -> Cause {
    let text = |pairs: &[(&String, &String)]| {
        let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join(",")
    };
    let wanted: Vec<_> = selector.iter().collect();
    let cause = Cause::new(format!(
        "no pod in its namespace has the labels {}",
        text(&wanted)
    ));
    let missing = |pod: &Pod| -> Vec<(&String, &String)> {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        wanted
            .iter()
            .copied()
            .filter(|(k, v)| labels.get(*k) != Some(*v))
            .collect()
    };
    let closest = all.iter().min_by_key(|pod| missing(pod).len());
    match closest.map(|pod| (pod, missing(pod))) {
        Some((pod, lacks)) if lacks.len() < wanted.len() => cause.detail(format!(
            "closest is pod {}, which lacks {}",
            pod.metadata.name.as_deref().unwrap_or_default(),
            text(&lacks)
        )),
        Some(_) => cause.advise("compare spec.selector with: kubectl get pods --show-labels"),
        None => {
            cause.advise("there is no pod in this namespace at all: create what the service is for")
        }
    }
}

/// A target port by name that no pod knows.
fn nameless(port: &ServicePort, chosen: &[&&Pod]) -> Option<Cause> {
    let Some(IntOrString::String(name)) = &port.target_port else {
        return None;
    };
    let knows = |pod: &&&Pod| {
        let spec = pod.spec.iter();
        let sidecars =
            |s: &k8s_openapi::api::core::v1::PodSpec| s.init_containers.clone().unwrap_or_default();
        let mut containers = spec.flat_map(|s| s.containers.iter().cloned().chain(sidecars(s)));
        containers.any(|c| {
            c.ports
                .iter()
                .flatten()
                .any(|p| p.name.as_ref() == Some(name))
        })
    };
    (!chosen.iter().any(knows)).then(|| {
        Cause::new(format!(
            "its target port {name} is no named port of its pods"
        ))
        .advise("name the container's port so, or use the number")
    })
}

fn own_end_points(picture: &Picture, service: &Service) -> Cause {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let all: Vec<Endpoints> = picture.of();
    let same = |e: &&Endpoints| {
        e.metadata.name == service.metadata.name
            && e.metadata.namespace == service.metadata.namespace
    };
    match all.iter().find(same) {
        None => Cause::new("it has no selector, so its end points are yours to give").advise(format!(
            "create an EndpointSlice with the label {SERVICE_NAME}={name}, or Endpoints of the name {name}"
        )),
        Some(_) => Cause::new("its Endpoints hold no ready address"),
    }
}

fn balancer(service: &Service) -> Option<Cause> {
    let spec = service.spec.as_ref()?;
    let status = service
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref());
    let given = status.is_some_and(|b| b.ingress.as_ref().is_some_and(|i| !i.is_empty()));
    if spec.type_.as_deref() != Some("LoadBalancer") || given {
        return None;
    }
    Some(match spec.load_balancer_class.as_deref() {
        Some(class) => Cause::new(format!(
            "its address is to come from the load balancer {class}"
        ))
        .advise("see that a controller for this class runs"),
        None => Cause::new("it has not been given an address yet"),
    })
}
