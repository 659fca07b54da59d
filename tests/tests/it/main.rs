//! Whole-cluster tests: the walk-throughs that users follow, done with unmodified clients.

mod guestbook;
mod lifecycle;
mod minikube;
mod pods;
mod resources;
