//! Decisions by table, and the lessons of others' mistakes by name.

use crate::capabilities;
use crate::image::{ImageConfig, Manifest, digest};
use crate::limits::{Limits, v1, v2};
use crate::plan::{Request, container};
use crate::reference::Reference;
use crate::seccomp::default_filter;
use crate::user::{self, NoUser, UserChoice, resolve};
use crate::{Mount, Propagation, Source, sysctl};

#[test]
fn references_are_completed() {
    let hex = "a".repeat(64);
    let with_digest = format!("ghcr.io/a/b:1@sha256:{hex}");
    for (text, full) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        (
            "index.docker.io/library/busybox",
            "docker.io/library/busybox:latest",
        ),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        (
            "127.0.0.1:5000/a/b_c/d--e",
            "127.0.0.1:5000/a/b_c/d--e:latest",
        ),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (
            "gcr.io/google-samples/gb-frontend:v4",
            "gcr.io/google-samples/gb-frontend:v4",
        ),
        (with_digest.as_str(), with_digest.as_str()),
    ] {
        assert_eq!(
            Reference::parse(text).map(|r| r.to_string()),
            Ok(full.to_owned()),
            "{text}"
        );
    }
    for bad in [
        "",
        "Upper",
        "a/../b",
        "a//b",
        "-a",
        "a:",
        "a:-b",
        "a@sha256:12",
        "a b",
        "http://a/b",
        "a:b:c/d",
        "reg.io:99999/app",
        "x/.hidden",
        "a__/b",
        "a___b",
    ] {
        assert!(Reference::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn chain_ids_name_what_lies_below() {
    let diffs = [
        "sha256:".to_owned() + &"1".repeat(64),
        "sha256:".to_owned() + &"2".repeat(64),
    ];
    let json =
        serde_json::json!({"rootfs": {"diff_ids": diffs}, "config": {"Env": null, "Cmd": null}});
    let config = ImageConfig::parse(json.to_string().as_bytes()).unwrap();
    let chain = config.chain_ids();
    assert_eq!(chain[0], diffs[0]);
    assert_eq!(
        chain[1],
        digest(format!("{} {}", diffs[0], diffs[1]).as_bytes())
    );
}

#[test]
fn containerd_2023_25153_documents_are_bounded() {
    let long = vec![b' '; crate::image::MAX_DOCUMENT_BYTES + 1];
    assert!(
        ImageConfig::parse(&long)
            .unwrap_err()
            .to_string()
            .contains("is longer than")
    );
    let many = vec!["sha256:".to_owned() + &"1".repeat(64); 501];
    let json = serde_json::json!({"rootfs": {"diff_ids": many}}).to_string();
    assert!(ImageConfig::parse(json.as_bytes()).is_err());
    let strange = serde_json::json!({"config": {"digest": "sha256:../../etc/passwd"}}).to_string();
    assert!(Manifest::parse(strange.as_bytes()).is_err());
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:www:/var/www:/bin/false\n1000:x:0:0::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nweb:x:34:\nextra:x:50:web,other\n";

fn user(text: &str) -> Result<(u32, u32, Vec<u32>, String), NoUser> {
    let choice = UserChoice {
        user: text.into(),
        ..UserChoice::default()
    };
    resolve(&choice, PASSWD, GROUP).map(|user| (user.uid, user.gid, user.groups, user.home))
}

#[test]
fn users_are_found() {
    assert_eq!(user(""), Ok((0, 0, vec![0], "/root".into())));
    assert_eq!(user("web"), Ok((33, 34, vec![34, 50], "/var/www".into())));
    assert_eq!(user("33"), Ok((33, 34, vec![34, 50], "/var/www".into())));
    assert_eq!(user("33:7"), Ok((33, 7, vec![7, 50], "/var/www".into())));
    assert_eq!(user("web:extra"), Ok((33, 50, vec![50], "/var/www".into())));
    assert_eq!(user("4000"), Ok((4000, 0, vec![0], "/".into())));
    assert_eq!(user("nobody"), Err(NoUser::Name("nobody".into())));
    assert_eq!(user("0:nogroup"), Err(NoUser::Group("nogroup".into())));
    let strict = UserChoice {
        user: "web".into(),
        supplemental_groups: vec![9],
        strict: true,
    };
    assert_eq!(resolve(&strict, PASSWD, GROUP).unwrap().groups, [9, 34]);
}

#[test]
fn runc_2016_3697_containerd_2024_40635_a_number_never_becomes_another_user() {
    // A user whose name is a number does not lend it its own ID.
    assert_eq!(user("1000").unwrap().0, 1000);
    for text in [
        "4294967296",
        "4294967295",
        "2147483648",
        "-1",
        "99999999999999999999",
        "0:4294967296",
    ] {
        assert!(matches!(user(text), Err(NoUser::Range(_))), "{text}");
    }
    assert!(user::image_user("4294967296").is_err());
    assert_eq!(
        user::image_user("1000:1000"),
        Ok((Some(1000), String::new()))
    );
    assert_eq!(user::image_user("web"), Ok((None, "web".into())));
    assert_eq!(user::choose(Some(7), "", Some(8), "web"), Ok("7:8".into()));
    assert_eq!(user::choose(None, "", None, "web"), Ok("web".into()));
    assert_eq!(
        user::choose(None, "", Some(8), "web"),
        Err(NoUser::GroupWithoutUser)
    );
}

#[test]
fn capabilities_are_added_and_dropped() {
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let set = |add: &[&str], drop: &[&str]| capabilities::set(false, &names(add), &names(drop));
    let one = |name| capabilities::mask_of(name).unwrap();
    assert_eq!(
        set(&["NET_BIND_SERVICE"], &["ALL"]),
        Ok(one("CAP_NET_BIND_SERVICE"))
    );
    assert_eq!(
        set(&["ALL"], &["SYS_ADMIN"]),
        Ok(capabilities::ALL & !one("SYS_ADMIN"))
    );
    assert_eq!(set(&[], &["chown"]).unwrap() & one("CHOWN"), 0);
    assert_eq!(
        set(&["NET_ADMIN"], &[]).unwrap() & one("NET_ADMIN"),
        one("net_admin")
    );
    assert!(set(&["MAKE_COFFEE"], &[]).is_err());
    assert_eq!(capabilities::set(true, &[], &[]), Ok(capabilities::ALL));
}

#[test]
fn kubernetes_2020_10749_raw_sockets_are_not_given_unasked() {
    let default = capabilities::set(false, &[], &[]).unwrap();
    assert_eq!(default & capabilities::mask_of("NET_RAW").unwrap(), 0);
}

#[test]
fn cri_o_2022_0811_sysctls_are_an_allow_list() {
    let path =
        |name, value| sysctl::path(name, value, false, false).map(|p| p.display().to_string());
    assert_eq!(
        path("net.core.somaxconn", "1024"),
        Ok("/proc/sys/net/core/somaxconn".into())
    );
    assert_eq!(
        path("kernel.shm_rmid_forced", "1"),
        Ok("/proc/sys/kernel/shm_rmid_forced".into())
    );
    assert_eq!(
        path("net/ipv4/conf/eth0.1/rp_filter", "0"),
        Ok("/proc/sys/net/ipv4/conf/eth0.1/rp_filter".into())
    );
    for bad in [
        "kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net..x",
        "/net",
        "vm.swappiness",
        "net.a+b",
        "",
    ] {
        assert!(path(bad, "1").is_err(), "{bad}");
    }
    assert!(path("net.core.somaxconn", "1\n2").is_err());
    assert!(sysctl::path("net.core.somaxconn", "1", true, false).is_err());
    assert!(sysctl::path("kernel.sem", "1", false, true).is_err());
}

#[test]
fn limits_become_writes() {
    let limits = Limits {
        cpu_period_us: 100_000,
        cpu_quota_us: 50_000,
        cpu_shares: 512,
        memory_bytes: 1 << 20,
        memory_and_swap_bytes: 1 << 20,
        unified: [
            ("memory.high".to_owned(), "5".to_owned()),
            ("../x.y".into(), "z".into()),
        ]
        .into(),
        ..Limits::default()
    };
    let show = |writes: Vec<crate::limits::Write>| {
        let lines = writes
            .iter()
            .map(|write| format!("{}={}\n", write.file, write.value));
        lines.collect::<String>()
    };
    expect_test::expect![[r#"
        cpu.shares=512
        cpu.cfs_period_us=100000
        cpu.cfs_quota_us=50000
        memory.limit_in_bytes=1048576
        memory.memsw.limit_in_bytes=1048576
    "#]]
    .assert_eq(&show(v1(&limits)));
    expect_test::expect![[r#"
        cpu.weight=59
        cpu.max=50000 100000
        memory.max=1048576
        memory.swap.max=0
        memory.high=5
    "#]]
    .assert_eq(&show(v2(&limits)));
    for (shares, weight) in [(2, "1"), (1024, "100"), (262_144, "10000")] {
        let limits = Limits {
            cpu_shares: shares,
            ..Limits::default()
        };
        assert_eq!(v2(&limits)[0].value, weight);
    }
}

fn image() -> ImageConfig {
    let json = serde_json::json!({"config": {
        "Entrypoint": ["/entry", "-x"], "Cmd": ["default"], "Env": ["PATH=/image", "A=1"],
        "WorkingDir": "srv", "User": "web", "Volumes": {"/data": {}, "/dev/shm": {}},
    }});
    ImageConfig::parse(json.to_string().as_bytes()).unwrap()
}

#[test]
fn pod_and_image_are_joined() {
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    for (command, args, all) in [
        (&[][..], &[][..], &["/entry", "-x", "default"][..]),
        (&[], &["mine"], &["/entry", "-x", "mine"]),
        (&["/own"], &[], &["/own"]),
        (&["/own"], &["mine"], &["/own", "mine"]),
    ] {
        let request = Request {
            command: words(command),
            args: words(args),
            ..Request::default()
        };
        assert_eq!(container(&request, &image()).unwrap().arguments, all);
    }
    let host = Mount {
        destination: "/data/".into(),
        source: Source::Host("/srv/x".into()),
        read_only: true,
        recursive_read_only: false,
        propagation: Propagation::Private,
    };
    let env = vec![("A".into(), "2".into()), ("B".into(), "3".into())];
    let request = Request {
        env,
        hostname: "pod".into(),
        mounts: vec![host],
        ..Request::default()
    };
    let plan = container(&request, &image()).unwrap();
    assert_eq!(
        plan.environment,
        ["PATH=/image", "HOSTNAME=pod", "A=2", "B=3"]
    );
    assert_eq!(plan.working_dir, "/srv");
    let mounts: Vec<_> = plan
        .mounts
        .iter()
        .map(|one| one.destination.as_str())
        .collect();
    assert_eq!(
        mounts,
        [
            "/proc",
            "/dev",
            "/sys",
            "/data",
            "/dev/pts",
            "/dev/mqueue",
            "/dev/shm",
            "/sys/fs/cgroup"
        ]
    );
    assert!(container(&Request::default(), &ImageConfig::default()).is_err());
    let bad = Request {
        env: vec![("A=B".into(), "c".into())],
        ..request
    };
    assert!(container(&bad, &image()).is_err());
}

#[test]
fn containerd_2022_23648_volumes_of_an_image_stay_inside() {
    let mut image = image();
    image.config.volumes = [("/../../../etc".to_owned(), serde_json::json!({}))].into();
    assert!(container(&Request::default(), &image).is_err());
}

/// Runs a filter as the kernel would.
fn verdict(capabilities: u64, call: i64, argument: u32) -> u32 {
    let program = default_filter(capabilities);
    let (mut at, mut value) = (0, 0);
    loop {
        let one = program[at];
        at += 1;
        let holds = match one.code {
            0x20 => {
                value = match one.value {
                    0 => u32::try_from(call).unwrap(),
                    4 if cfg!(target_arch = "x86_64") => 0xc000_003e,
                    4 => 0xc000_00b7,
                    _ => argument,
                };
                continue;
            }
            0x54 => {
                value &= one.value;
                continue;
            }
            0x06 => return one.value,
            0x15 => value == one.value,
            0x25 => value > one.value,
            other => panic!("unknown operation {other:#x}"),
        };
        at += usize::from(if holds { one.jump_true } else { one.jump_false });
    }
}

#[test]
fn the_default_filter_forbids_what_it_says() {
    const ALLOW: u32 = 0x7fff_0000;
    let (none, admin) = (0, capabilities::mask_of("SYS_ADMIN").unwrap());
    for call in [
        libc::SYS_read,
        libc::SYS_openat,
        libc::SYS_execve,
        libc::SYS_epoll_pwait2,
        466,
    ] {
        assert_eq!(verdict(none, call, 0), ALLOW, "{call}");
    }
    for call in [
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
    ] {
        assert_eq!(verdict(none, call, 0), 0x0005_0001, "{call}");
        assert_eq!(verdict(admin, call, 0), ALLOW, "{call}");
    }
    assert_eq!(verdict(admin, libc::SYS_io_uring_setup, 0), 0x0005_0001);
    assert_eq!(verdict(admin, libc::SYS_keyctl, 0), 0x0005_0001);
    let enosys = 0x0005_0000 | libc::ENOSYS as u32;
    assert_eq!(verdict(none, libc::SYS_clone3, 0), enosys);
    assert_eq!(verdict(admin, 467, 0), enosys);
    assert_eq!(verdict(none, libc::SYS_clone, 0x11), ALLOW);
    assert_eq!(verdict(none, libc::SYS_clone, 0x1000_0000), 0x0005_0001);
    assert_eq!(verdict(none, libc::SYS_socket, 2), ALLOW);
    assert_eq!(verdict(none, libc::SYS_socket, 40), 0x0005_0001);
    assert_eq!(verdict(none, libc::SYS_personality, 0), ALLOW);
    assert_eq!(verdict(none, libc::SYS_personality, 0x40000), 0x0005_0001);
    assert!(default_filter(0).len() < 4096);
}

#[test]
fn device_rules_are_the_same_for_both_versions() {
    use crate::limits::{parse_device_rule, v1_device_rule, v1_device_rules};
    let rule = parse_device_rule(&v1_device_rule(true, 8, 1, "rw").value).unwrap();
    assert_eq!(
        (rule.block, rule.major, rule.minor),
        (true, Some(8), Some(1))
    );
    assert_eq!(rule.permissions, "rw");
    let any = parse_device_rule("c 136:* rwm").unwrap();
    assert_eq!((any.major, any.minor), (Some(136), None));
    assert_eq!(parse_device_rule("a"), None);
    let rules = v1_device_rules();
    let parsed = rules
        .iter()
        .filter_map(|write| parse_device_rule(&write.value))
        .count();
    assert_eq!(parsed + 1, rules.len());
}
