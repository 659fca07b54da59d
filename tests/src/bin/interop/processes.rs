//! One host and what runs on it, with the flags that kubeadm gives.

use std::path::{Path, PathBuf};

use cluster_tests::{Cluster, Host, ip, kubeconfig, words};
use demo_images::{Image, samples};

use crate::pki;

pub(crate) const ADDRESS: &str = "172.29.94.1";
const PAUSE: &str = "localhost/pause:1";

/// Whose component.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Stock,
}

/// A host with a control plane and a node.
pub(crate) struct Plane {
    pub(crate) host: Host,
    pub(crate) admin: String,
    stock: PathBuf,
    pki: PathBuf,
}

impl Plane {
    pub(crate) fn new(stock: &Path) -> Self {
        let host = Host::new("i");
        let name = host.name().to_owned();
        ip(&format!("-n {name} link add d0 type bridge"));
        ip(&format!("-n {name} addr add {ADDRESS}/24 dev d0"));
        ip(&format!("-n {name} link set d0 up"));
        ip(&format!("-n {name} route add default dev d0"));
        let pki = host.path("pki");
        pki::make(&pki, ADDRESS);
        let url = format!("https://{ADDRESS}:6443");
        let admin = kubeconfig(&host, &pki, &url, "admin");
        for who in ["controller-manager", "scheduler", "kubelet", "kube-proxy"] {
            kubeconfig(&host, &pki, &url, who);
        }
        let stock = stock.to_owned();
        Self {
            host,
            admin,
            stock,
            pki,
        }
    }

    fn run(&mut self, side: Side, component: &str, flags: &str) {
        let mut arguments = words(flags);
        match side {
            Side::Ours => {
                arguments.insert(0, component.to_owned());
                self.host.start(component, &arguments);
            }
            Side::Stock => {
                let program = self.stock.join(component);
                self.host.start_program(&program, component, &arguments);
            }
        }
    }

    /// A kubeconfig that [`Plane::new`] made.
    fn config(&self, who: &str) -> String {
        self.host.text(&format!("{who}.kubeconfig"))
    }

    pub(crate) fn api(&mut self, side: Side) {
        let p = self.pki.display().to_string();
        let data = match side {
            Side::Ours => format!("--data-dir={}", self.host.text("store")),
            Side::Stock => {
                let data = self.host.text("etcd");
                let etcd = format!("--data-dir={data} --logger=zap --log-level=warn");
                self.host
                    .start_program(Path::new("/usr/bin/etcd"), "etcd", &words(&etcd));
                "--etcd-servers=http://127.0.0.1:2379".to_owned()
            }
        };
        let flags = format!(
            "{data} --advertise-address={ADDRESS} --allow-privileged=true --authorization-mode=Node,RBAC \
             --client-ca-file={p}/ca.crt --enable-admission-plugins=NodeRestriction --enable-bootstrap-token-auth=true \
             --kubelet-client-certificate={p}/apiserver-kubelet-client.crt \
             --kubelet-client-key={p}/apiserver-kubelet-client.key --kubelet-certificate-authority={p}/ca.crt \
             --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname \
             --proxy-client-cert-file={p}/front-proxy-client.crt --proxy-client-key-file={p}/front-proxy-client.key \
             --requestheader-allowed-names=front-proxy-client --requestheader-client-ca-file={p}/front-proxy-ca.crt \
             --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
             --requestheader-username-headers=X-Remote-User \
             --secure-port=6443 \
             --service-account-issuer=https://kubernetes.default.svc.cluster.local \
             --service-account-key-file={p}/sa.pub --service-account-signing-key-file={p}/sa.key \
             --service-cluster-ip-range=10.96.0.0/16 --tls-cert-file={p}/apiserver.crt \
             --tls-private-key-file={p}/apiserver.key"
        );
        self.run(side, "kube-apiserver", &flags);
        let ready = ["get", "--raw", "/readyz"];
        self.host.wait(&self.admin, &ready, |said| said == "ok");
    }

    pub(crate) fn controllers(&mut self, side: Side) {
        let (p, config) = (
            self.pki.display().to_string(),
            self.config("controller-manager"),
        );
        let flags = format!(
            "--allocate-node-cidrs=true --authentication-kubeconfig={config} --authorization-kubeconfig={config} \
             --bind-address=127.0.0.1 --client-ca-file={p}/ca.crt --cluster-cidr=10.244.0.0/16 --cluster-name=kubernetes \
             --cluster-signing-cert-file={p}/ca.crt --cluster-signing-key-file={p}/ca.key \
             --controllers=*,bootstrap-signer-controller,token-cleaner-controller --kubeconfig={config} --leader-elect=true \
             --requestheader-client-ca-file={p}/front-proxy-ca.crt --root-ca-file={p}/ca.crt \
             --service-account-private-key-file={p}/sa.key --service-cluster-ip-range=10.96.0.0/16 \
             --use-service-account-credentials=true"
        );
        self.run(side, "kube-controller-manager", &flags);
    }

    pub(crate) fn scheduler(&mut self, side: Side) {
        let config = self.config("scheduler");
        let flags = format!(
            "--authentication-kubeconfig={config} --authorization-kubeconfig={config} --bind-address=127.0.0.1 \
             --kubeconfig={config} --leader-elect=true"
        );
        self.run(side, "kube-scheduler", &flags);
    }

    pub(crate) fn proxy(&mut self, side: Side, mode: &str) {
        let config = self.config("kube-proxy");
        let flags = format!(
            "--kubeconfig={config} --cluster-cidr=10.244.0.0/16 --hostname-override=n1 --proxy-mode={mode}"
        );
        let flags = match side {
            Side::Ours => flags,
            // These sysctls are not the network namespace's own.
            Side::Stock => format!("{flags} --conntrack-max-per-core=0"),
        };
        self.run(side, "kube-proxy", &flags);
    }

    pub(crate) fn kubelet(&mut self, side: Side) {
        let image = self.host.path("image.tar");
        match side {
            Side::Ours => {
                self.own_kubelet();
                archive(&samples::busybox().expect("an image"), &image);
                self.load(&Cluster::program("oxikube"), &|host, image| {
                    format!("image load --data-dir {} {image}", host.text("runtime"))
                });
            }
            Side::Stock => {
                self.containerd();
                let address = self.host.text("containerd.sock");
                for made in [samples::busybox(), pause()] {
                    archive(&made.expect("an image"), &image);
                    self.load(Path::new("/usr/bin/ctr"), &|_, image| {
                        format!("-a {address} -n k8s.io images import {image}")
                    });
                }
                self.stock_kubelet();
            }
        }
    }

    fn own_kubelet(&mut self) {
        let (config, p) = (self.config("kubelet"), self.pki.display().to_string());
        let (run, root) = (self.host.text("runtime"), self.host.text("kubelet"));
        let flags = format!(
            "--kubeconfig={config} --hostname-override=n1 --node-ip={ADDRESS} --client-ca-file={p}/ca.crt \
             --tls-cert-file={p}/kubelet-server.crt --tls-private-key-file={p}/kubelet-server.key \
             --runtime-dir={run} --root-dir={root} --cgroup-root={}",
            self.host.name()
        );
        self.run(Side::Ours, "kubelet", &flags);
    }

    fn stock_kubelet(&mut self) {
        let (config, p) = (self.config("kubelet"), self.pki.display().to_string());
        let name = self.host.name();
        for controller in ["cpu", "cpuacct", "cpuset", "memory", "pids", "systemd"] {
            let group = Path::new("/sys/fs/cgroup").join(controller).join(name);
            std::fs::create_dir_all(group).expect("a control group");
        }
        let text = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupDriver: cgroupfs\n\
             cgroupRoot: /{name}\nfailCgroupV1: false\nfailSwapOn: false\nclusterDomain: cluster.local\n\
             containerRuntimeEndpoint: unix://{}\nresolvConf: \"\"\npodLogsDir: {}\n\
             authentication: {{x509: {{clientCAFile: {p}/ca.crt}}}}\n\
             tlsCertFile: {p}/kubelet-server.crt\ntlsPrivateKeyFile: {p}/kubelet-server.key\n\
             evictionHard: {{memory.available: 50Mi, nodefs.available: \"1%\", imagefs.available: \"1%\"}}\n",
            self.host.text("containerd.sock"),
            self.host.text("podlogs"),
        );
        let file = self.host.text("kubelet.yaml");
        std::fs::write(&file, text).expect("written");
        let flags = format!(
            "--config={file} --kubeconfig={config} --hostname-override=n1 --node-ip={ADDRESS} --root-dir={} \
             --cert-dir={}",
            self.host.text("kubelet"),
            self.host.text("kubelet-pki")
        );
        self.run(Side::Stock, "kubelet", &flags);
    }

    fn containerd(&mut self) {
        let text = |file: &str| self.host.text(file);
        let network = self.host.path("cni");
        std::fs::create_dir_all(&network).expect("a directory");
        let plan = "{\"cniVersion\": \"0.4.0\", \"name\": \"pods\", \"plugins\": [{\"type\": \"bridge\", \
             \"bridge\": \"cni0\", \"isGateway\": true, \"hairpinMode\": true, \"ipam\": {\"type\": \"host-local\", \
             \"dataDir\": \"@\", \"ranges\": [[{\"subnet\": \"10.244.0.0/24\"}]], \
             \"routes\": [{\"dst\": \"0.0.0.0/0\"}]}}]}";
        let plan = plan.replace('@', &text("addresses"));
        std::fs::write(network.join("10-pods.conflist"), plan).expect("written");
        let cri = "[plugins.\"io.containerd.grpc.v1.cri\"";
        let settings = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.devmapper\"]\n\
             [grpc]\naddress = \"{}\"\n{cri}]\nsandbox_image = \"{PAUSE}\"\ndisable_apparmor = true\n\
             netns_mounts_under_state_dir = true\nrestrict_oom_score_adj = true\n{cri}.cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{}\"\n\
             {cri}.containerd]\nsnapshotter = \"overlayfs\"\n",
            text("containerd"),
            text("containerd-run"),
            text("containerd.sock"),
            network.display(),
        );
        let file = text("containerd.toml");
        std::fs::write(&file, settings).expect("written");
        let arguments = words(&format!("--config {file}"));
        self.host
            .start_program(Path::new("/usr/bin/containerd"), "containerd", &arguments);
    }

    /// Runs a command that loads the archive, until the runtime is there.
    fn load(&self, program: &Path, arguments: &dyn Fn(&Host, &str) -> String) {
        let arguments = words(&arguments(&self.host, &self.host.text("image.tar")));
        self.host
            .until(&format!("{} takes an image", program.display()), || {
                let done = self.host.command(program).args(&arguments).output();
                let done = done.map_err(|error| error.to_string())?;
                match done.status.success() {
                    true => Ok(()),
                    false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
                }
            });
    }
}

/// What holds a sandbox open.
fn pause() -> anyhow::Result<Image> {
    Ok(Image::new(PAUSE)
        .busybox()?
        .entrypoint(&["sleep", "1000000000"]))
}

fn archive(image: &Image, to: &Path) {
    let file = std::fs::File::create(to).expect("a file");
    let built = image.build().expect("an image");
    built.archive(file).expect("written");
}
