//! The default system-call filter (`RuntimeDefault`), as a classic BPF program: no library is
//! needed to make it.
//!
//! The calls that exist today are allowed but for those listed here: some for everybody, some
//! unless the container has a capability that makes them meaningful. Calls invented later, and
//! those of other architectures (32-bit programs), do not exist in a filtered container. What is
//! listed follows the default profile that Docker and containerd share.

/// One instruction, in the layout of the kernel's `sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip when a jump's test holds.
    pub jump_true: u8,
    /// How many when it does not.
    pub jump_false: u8,
    /// The constant.
    pub value: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const FORBIDDEN: u32 = 0x0005_0000 | libc::EPERM as u32;
const MISSING: u32 = 0x0005_0000 | libc::ENOSYS as u32;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// The newest call known here: `removexattrat`.
const NEWEST: u32 = 466;

/// `AF_VSOCK`: the way to the hypervisor is not namespaced.
const VSOCK: u32 = 40;

/// Flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// Executions domains that change nothing but what `uname` and `mmap` say.
const PERSONALITIES: &[u32] = &[0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Calls that nobody in a container needs: key rings and io_uring are not namespaced well, the
/// others are for the host.
const NOBODY: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_nfsservctl,
    libc::SYS_pivot_root,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_userfaultfd,
    // lsm_get_self_attr, lsm_set_self_attr, lsm_list_modules
    459,
    460,
    461,
];

#[cfg(target_arch = "x86_64")]
const NOBODY_HERE: &[libc::c_long] = &[
    libc::SYS__sysctl,
    libc::SYS_afs_syscall,
    libc::SYS_getpmsg,
    libc::SYS_putpmsg,
    libc::SYS_security,
    libc::SYS_sysfs,
    libc::SYS_tuxcall,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_vserver,
];
#[cfg(not(target_arch = "x86_64"))]
const NOBODY_HERE: &[libc::c_long] = &[];

/// Calls that need one of some capabilities.
const PRIVILEGED: &[(&[&str], &[libc::c_long])] = &[
    (&["DAC_READ_SEARCH"], &[libc::SYS_open_by_handle_at]),
    (
        &["SYS_ADMIN"],
        &[
            libc::SYS_fanotify_init,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_lookup_dcookie,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_umount2,
            libc::SYS_unshare,
        ],
    ),
    (&["SYS_ADMIN", "BPF"], &[libc::SYS_bpf]),
    (&["SYS_ADMIN", "PERFMON"], &[libc::SYS_perf_event_open]),
    (&["SYS_ADMIN", "SYSLOG"], &[libc::SYS_syslog]),
    (&["SYS_BOOT"], &[libc::SYS_reboot]),
    (&["SYS_CHROOT"], &[libc::SYS_chroot]),
    (
        &["SYS_MODULE"],
        &[
            libc::SYS_delete_module,
            libc::SYS_init_module,
            libc::SYS_finit_module,
        ],
    ),
    (&["SYS_PACCT"], &[libc::SYS_acct]),
    (
        &["SYS_PTRACE"],
        &[
            libc::SYS_kcmp,
            libc::SYS_pidfd_getfd,
            libc::SYS_process_madvise,
        ],
    ),
    (
        &["SYS_NICE"],
        &[
            libc::SYS_get_mempolicy,
            libc::SYS_mbind,
            libc::SYS_move_pages,
            libc::SYS_set_mempolicy,
            libc::SYS_set_mempolicy_home_node,
        ],
    ),
    (
        &["SYS_TIME"],
        &[libc::SYS_settimeofday, libc::SYS_clock_settime],
    ),
    (&["SYS_TTY_CONFIG"], &[libc::SYS_vhangup]),
    #[cfg(target_arch = "x86_64")]
    (&["SYS_RAWIO"], &[libc::SYS_iopl, libc::SYS_ioperm]),
];

/// The filter for a container with these capabilities.
pub fn default_filter(capabilities: u64) -> Vec<Instruction> {
    let has =
        |name: &str| crate::capabilities::mask_of(name).is_ok_and(|one| capabilities & one != 0);
    let mut program = vec![
        load(4),
        Instruction {
            code: JUMP_IF_EQUAL,
            jump_true: 1,
            jump_false: 0,
            value: ARCHITECTURE,
        },
        give(MISSING),
        load(0),
        Instruction {
            code: JUMP_IF_GREATER,
            jump_true: 0,
            jump_false: 1,
            value: NEWEST,
        },
        give(MISSING),
    ];
    for call in NOBODY.iter().chain(NOBODY_HERE) {
        refuse(&mut program, *call, FORBIDDEN);
    }
    for (wanted, calls) in PRIVILEGED {
        if !wanted.iter().any(|name| has(name)) {
            calls
                .iter()
                .for_each(|call| refuse(&mut program, *call, FORBIDDEN));
        }
    }
    by_arguments(&mut program, has("SYS_ADMIN"));
    program.push(give(ALLOW));
    program
}

/// Calls that are allowed with some arguments only.
fn by_arguments(program: &mut Vec<Instruction>, admin: bool) {
    if !admin {
        // Its flags lie in memory, which a filter cannot see; the C library falls back to clone.
        refuse(program, libc::SYS_clone3, MISSING);
        let body = [
            load(16),
            Instruction {
                code: AND,
                jump_true: 0,
                jump_false: 0,
                value: NAMESPACE_FLAGS,
            },
            Instruction {
                code: JUMP_IF_EQUAL,
                jump_true: 1,
                jump_false: 0,
                value: 0,
            },
            give(FORBIDDEN),
            give(ALLOW),
        ];
        guard(program, libc::SYS_clone, &body);
    }
    let socket = [
        load(16),
        Instruction {
            code: JUMP_IF_EQUAL,
            jump_true: 0,
            jump_false: 1,
            value: VSOCK,
        },
        give(FORBIDDEN),
        give(ALLOW),
    ];
    guard(program, libc::SYS_socket, &socket);
    let mut personality = vec![load(16)];
    for domain in PERSONALITIES {
        personality.push(Instruction {
            code: JUMP_IF_EQUAL,
            jump_true: 0,
            jump_false: 1,
            value: *domain,
        });
        personality.push(give(ALLOW));
    }
    personality.push(give(FORBIDDEN));
    guard(program, libc::SYS_personality, &personality);
}

/// Loads a word of the call's description: 0 its number, 4 the architecture, 16 the lower half of
/// the first argument.
fn load(offset: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jump_true: 0,
        jump_false: 0,
        value: offset,
    }
}

fn give(verdict: u32) -> Instruction {
    Instruction {
        code: RETURN,
        jump_true: 0,
        jump_false: 0,
        value: verdict,
    }
}

/// The number of a call fits: the kernel has a few hundred.
fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn refuse(program: &mut Vec<Instruction>, call: libc::c_long, verdict: u32) {
    guard(program, call, &[give(verdict)]);
}

/// Runs `body`, which ends in a verdict on every way, for one call.
fn guard(program: &mut Vec<Instruction>, call: libc::c_long, body: &[Instruction]) {
    let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
    let value = number(call);
    program.push(Instruction {
        code: JUMP_IF_EQUAL,
        jump_true: 0,
        jump_false: skip,
        value,
    });
    program.extend_from_slice(body);
}
