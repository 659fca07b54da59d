//! A systemd unit for the command that is being run.

use std::ffi::OsString;

/// The unit that runs this program with these arguments. Pods stay when it stops: only the process itself is ended.
pub(super) fn unit(what: &str, program: &str, arguments: &[OsString]) -> String {
    let word = |argument: &OsString| {
        let text = argument.to_string_lossy().replace('%', "%%");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
        match !text.is_empty() && text.chars().all(plain) {
            true => text,
            false => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    };
    let command: Vec<String> = std::iter::once(&OsString::from(program))
        .chain(arguments.iter().filter(|a| *a != "--print-unit"))
        .map(word)
        .collect();
    format!(
        "[Unit]\nDescription=oxikube {what}: Kubernetes in one process\nWants=network-online.target\n\
         After=network-online.target\n\n[Service]\nType=notify\nExecStart={}\nRestart=always\nRestartSec=1\n\
         KillMode=process\nDelegate=yes\nLimitNOFILE=1048576\nLimitNPROC=infinity\nTasksMax=infinity\n\
         OOMScoreAdjust=-999\nTimeoutStartSec=0\n\n[Install]\nWantedBy=multi-user.target\n",
        command.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn a_unit_runs_the_same_command() {
        let arguments = ["server", "--print-unit", "--node-label", "a=b c"].map(Into::into);
        expect![[r#"
            [Unit]
            Description=oxikube server: Kubernetes in one process
            Wants=network-online.target
            After=network-online.target

            [Service]
            Type=notify
            ExecStart=/usr/local/bin/oxikube server --node-label "a=b c"
            Restart=always
            RestartSec=1
            KillMode=process
            Delegate=yes
            LimitNOFILE=1048576
            LimitNPROC=infinity
            TasksMax=infinity
            OOMScoreAdjust=-999
            TimeoutStartSec=0

            [Install]
            WantedBy=multi-user.target
        "#]]
        .assert_eq(&super::unit("server", "/usr/local/bin/oxikube", &arguments));
    }
}
