//! Whole-cluster tests: the walk-throughs that users follow, done with unmodified clients.

mod admissionpolicies;
mod clients;
mod commands;
mod components;
mod customresources;
mod datastore;
mod deployments;
mod guestbook;
mod guide;
mod helm;
mod in_action;
mod lifecycle;
mod lost_nodes;
mod minikube;
mod mutatingadmissionpolicies;
mod nodes;
mod operator;
mod pods;
mod policy;
mod resources;
mod services;
mod static_pods;
mod storage;
mod webhooks;
mod why;
mod workloads;
