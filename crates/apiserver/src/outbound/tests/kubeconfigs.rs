//! Far ends as kubeconfigs describe them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::kubeconfig::{HookUsers, load};
use super::*;

fn write(dir: &TempDir, server: &str, cluster: Value, user: Value) -> std::path::PathBuf {
    let mut described = json!({"server": server});
    for (key, value) in cluster.as_object().into_iter().flatten() {
        described[key] = value.clone();
    }
    let file = json!({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "a", "user": "b"}}],
        "clusters": [{"name": "a", "cluster": described}], "users": [{"name": "b", "user": user}],
    });
    let path = dir.path().join("kubeconfig");
    std::fs::write(&path, file.to_string()).expect("written");
    path
}

fn program(dir: &TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, executable).expect("executable");
}

/// The authorization that the far end sees.
async fn shown(far: &Far, path: &Path) -> Result<String, String> {
    let outbound = Outbound::default();
    let (to, _) = load(path)?;
    ask(&outbound, far, &to).await
}

async fn ask(outbound: &Outbound, _: &Far, to: &Destination) -> Result<String, String> {
    let answer = outbound.exchange(&Known::default(), to, message("/")).await;
    let answer = answer.map_err(|e| e.to_string())?;
    let shown = answer.headers.get("x-bearer");
    Ok(shown.map_or(String::new(), |s| s.to_str().expect("text").to_owned()))
}

fn at(far: &Far) -> (String, Value) {
    let data = STANDARD.encode(&far.authority);
    let cluster = json!({"certificate-authority-data": data, "tls-server-name": NAME});
    (format!("https://127.0.0.1:{}", far.port), cluster)
}

#[tokio::test]
async fn a_far_end_is_known_by_another_name_and_shown_a_password_or_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let far = far(NAME, false).await;
    let (server, cluster) = at(&far);
    let user = json!({"username": "me", "password": "secret"});
    let path = write(&dir, &server, cluster.clone(), user);
    assert_eq!(
        shown(&far, &path).await.expect("shown"),
        "Basic bWU6c2VjcmV0"
    );
    let user = json!({"tokenFile": "token"});
    let path = write(&dir, &server, cluster.clone(), user);
    let missing = load(&path).err().expect("an error");
    assert!(missing.contains("failed to read token file"), "{missing}");
    std::fs::write(dir.path().join("token"), "abc\n").expect("written");
    assert_eq!(shown(&far, &path).await.expect("shown"), "Bearer abc");
    let mut wrong = cluster;
    wrong["tls-server-name"] = json!("other.test");
    let path = write(&dir, &server, wrong, json!({}));
    let said = shown(&far, &path).await.expect_err("refused");
    assert!(
        said.ends_with("valid for hook.test.svc, not other.test"),
        "{said}"
    );
}

#[tokio::test]
async fn a_program_is_asked_once_and_again_when_it_is_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let far = far(NAME, false).await;
    let (server, mut cluster) = at(&far);
    cluster["extensions"] =
        json!([{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}]);
    let exec = |more: Value| {
        let mut exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "./who", "args": ["a b"],
            "env": [{"name": "MARK", "value": "m"}], "interactiveMode": "Never", "provideClusterInfo": true,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            exec[key] = value.clone();
        }
        json!({"exec": exec})
    };
    let log = dir.path().join("log");
    let say = |status: &str| {
        format!(
            r#"echo "$1 $MARK $KUBERNETES_EXEC_INFO" >> {}; n=$(wc -l < {}); echo '{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{status}}}' | sed "s/NUMBER/$n/""#,
            log.display(),
            log.display(),
        )
    };
    program(&dir, "who", &say(r#"{"token":"tNUMBER"}"#));
    let path = write(&dir, &server, cluster.clone(), exec(json!({})));
    let (to, _) = load(&path).expect("a far end");
    let outbound = Outbound::default();
    for _ in 0..2 {
        assert_eq!(ask(&outbound, &far, &to).await.expect("shown"), "Bearer t1");
    }
    let asked = std::fs::read_to_string(&log).expect("a log");
    let (before, question) = asked.trim().split_once('{').expect("a question");
    assert_eq!(before, "a b m ");
    let question: Value = serde_json::from_str(&format!("{{{question}")).expect("JSON");
    assert_eq!(question["spec"]["interactive"], false);
    assert_eq!(question["spec"]["cluster"]["server"], json!(server));
    assert_eq!(question["spec"]["cluster"]["config"]["audience"], "x");
    // What it says is out of its time at once.
    program(
        &dir,
        "who",
        &say(r#"{"token":"tNUMBER","expirationTimestamp":"2020-01-01T00:00:00Z"}"#),
    );
    let (to, _) = load(&path).expect("a far end");
    for number in [2, 3] {
        let expected = format!("Bearer t{number}");
        assert_eq!(ask(&outbound, &far, &to).await.expect("shown"), expected);
    }
    // Whoever cannot say who we are says why.
    for (text, why) in [
        ("exit 3", "failed with exit code 3"),
        (
            "echo no",
            "decoding stdout: no ExecCredential (line 1, column 2)",
        ),
        (
            r#"echo '{"kind":"ExecCredential","apiVersion":"x/v1"}'"#,
            "exec plugin is configured to use API version client.authentication.k8s.io/v1, plugin returned version x/v1",
        ),
        (
            &say("{}"),
            "exec plugin didn't return a token or cert/key pair",
        ),
        (
            &say(r#"{"clientKeyData":"k"}"#),
            "exec plugin returned only certificate or key, not both",
        ),
    ] {
        program(&dir, "who", text);
        let said = shown(&far, &path).await.expect_err("refused");
        assert!(
            said.contains("getting credentials: ") && said.ends_with(why),
            "{said}"
        );
    }
    let path = write(
        &dir,
        &server,
        cluster.clone(),
        exec(json!({"command": "/nowhere", "installHint": "Do so."})),
    );
    let said = shown(&far, &path).await.expect_err("refused");
    assert!(
        said.ends_with("exec: executable /nowhere not found\n\nDo so."),
        "{said}"
    );
    for (more, why) in [
        (
            json!({"interactiveMode": null}),
            "interactiveMode must be specified for b to use exec authentication plugin",
        ),
        (
            json!({"command": ""}),
            "command must be specified for b to use exec authentication plugin",
        ),
        (
            json!({"apiVersion": "v9"}),
            "exec plugin: invalid apiVersion \"v9\"",
        ),
    ] {
        let path = write(&dir, &server, cluster.clone(), exec(more));
        let said = load(&path).err().expect("an error");
        assert!(said.ends_with(why), "{said}");
    }
}

/// A proxy that notes whom it connects to.
async fn proxy(socks: bool) -> (u16, Arc<parking_lot::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut head = Vec::new();
            let to = if socks {
                let mut start = [0; 3];
                near.read_exact(&mut start).await.expect("a greeting");
                near.write_all(&[5, 0]).await.expect("written");
                let mut address = [0; 10];
                near.read_exact(&mut address).await.expect("an address");
                near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
                    .await
                    .expect("written");
                head.extend_from_slice(&address);
                u16::from_be_bytes([address[8], address[9]])
            } else {
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await.expect("a head"));
                }
                near.write_all(b"HTTP/1.1 200 OK\r\n\r\n")
                    .await
                    .expect("written");
                let text = String::from_utf8_lossy(&head);
                let target = text.split(' ').nth(1).expect("a target");
                target
                    .rsplit_once(':')
                    .expect("a port")
                    .1
                    .parse()
                    .expect("a port")
            };
            log.lock().push(String::from_utf8_lossy(&head).into_owned());
            let mut far = tokio::net::TcpStream::connect(("127.0.0.1", to))
                .await
                .expect("there");
            tokio::spawn(async move {
                // Either end goes away at some time.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_far_end_is_reached_through_a_proxy() {
    let dir = tempfile::tempdir().expect("a directory");
    let far = far(NAME, true).await;
    for socks in [false, true] {
        let (port, asked) = proxy(socks).await;
        let (server, mut cluster) = at(&far);
        let url = match socks {
            true => format!("socks5://127.0.0.1:{port}"),
            false => format!("http://me:secret@127.0.0.1:{port}"),
        };
        cluster["proxy-url"] = json!(url);
        let path = write(&dir, &server, cluster, json!({"token": "t"}));
        assert_eq!(shown(&far, &path).await.expect("shown"), "Bearer t");
        let asked = asked.lock().join("");
        if !socks {
            let head = format!(
                "CONNECT 127.0.0.1:{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n",
                far.port, far.port
            );
            assert_eq!(asked, head);
        }
    }
    let (server, mut cluster) = at(&far);
    cluster["proxy-url"] = json!("https://me:secret@127.0.0.1");
    let path = write(&dir, &server, cluster, json!({}));
    let said = load(&path).err().expect("an error");
    assert!(
        said.ends_with("are not supported here, only http and socks5"),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn users_are_named_after_places() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("users");
    let user = |name: &str| json!({"name": name, "user": {"token": name}});
    let file = json!({
        "current-context": "c", "contexts": [{"name": "c", "context": {"user": "current"}}],
        "users": [user("a.ns.svc"), user("*.ns.svc:8443"), user("*.svc"), user("current")],
    });
    std::fs::write(&path, file.to_string()).expect("written");
    let users = HookUsers::load(&path).expect("users");
    let token = |host: &str, port: u16| {
        let login = users.at(host, port).and_then(|shows| shows.login.clone());
        match login.as_deref() {
            Some(Login::Token(token)) => token.to_string(),
            _ => String::new(),
        }
    };
    assert_eq!(token("a.ns.svc", 443), "a.ns.svc");
    assert_eq!(token("a.ns.svc", 8443), "*.ns.svc:8443");
    assert_eq!(token("b.other.svc", 443), "*.svc");
    assert_eq!(token("b.other.svc", 444), "current");
    assert_eq!(token("example.com", 443), "current");
}
