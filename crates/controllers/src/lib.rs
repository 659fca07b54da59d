//! The brains of kube-controller-manager: one folder per controller, each a pure decision.
//!
//! A folder holds the contract (`mod.rs`), what is looked at (`observe.rs`), the decision (`reconcile.rs`) and its tests.
//! No I/O, no clock, no randomness: `driver` brings the world in and carries the plans out, `controller-manager` puts the
//! two together. Names, reasons, messages and annotations are those of kube-controller-manager v1.37.
//! Start with [`replicaset`]; what several controllers share is in [`pods`], [`podcontrol`], [`ownership`] and [`history`].

pub mod history;
pub mod ownership;
pub mod podcontrol;
pub mod pods;
pub mod replicas;
pub mod services;

pub mod bootstraptokens;
pub mod certificates;
pub mod clusterroleaggregation;
pub mod clustertrustbundlepublisher;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoint;
pub mod endpointslice;
pub mod endpointslicemirroring;
pub mod ephemeralvolume;
pub mod expand;
pub mod garbagecollector;
pub mod job;
pub mod loadbalancer;
pub mod localprovisioner;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod persistentvolume;
pub mod podgc;
pub mod pvcprotection;
pub mod pvprotection;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod rootcacertpublisher;
pub mod serviceaccount;
pub mod serviceaccounttoken;
pub mod servicecidr;
pub mod statefulset;
pub mod storageversionmigrator;
pub mod tainteviction;
pub mod ttl;
pub mod ttlafterfinished;
pub mod vacprotection;
pub mod validatingadmissionpolicystatus;

#[cfg(test)]
mod harness;

#[cfg(test)]
mod lessons {
    /// 2020-8555, 2025-13281: nobody makes a controller fetch what he cannot reach himself, for it has nothing to fetch with.
    #[test]
    fn cve_2020_8555_controllers_reach_nothing_but_the_api() {
        let manifest = include_str!("../Cargo.toml");
        for network in ["hyper", "reqwest", "ureq", "tokio", "kube", "rustls"] {
            assert!(
                !manifest.lines().any(|line| line.starts_with(network)),
                "{network}"
            );
        }
    }
}
