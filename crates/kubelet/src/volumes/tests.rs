//! On the real file system, as root: mounts are made and taken away again.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource};
use pod_lifecycle::payload::{File, Files};

use super::{atomic, empty_dir, host_path, mount_points_below, subpath, unmount_now};

fn files(list: &[(&str, &str, u32)]) -> Files {
    let one = |(path, data, mode): &(&str, &str, u32)| {
        let file = File {
            data: data.as_bytes().to_vec(),
            mode: *mode,
            owner: None,
        };
        ((*path).to_owned(), file)
    };
    list.iter().map(one).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| e.kind().to_string())
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_change_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    atomic::write(
        dir,
        &files(&[("a", "1", 0o644), ("sub/b", "2", 0o400)]),
        None,
    )
    .unwrap();
    assert_eq!(read(dir.join("a")), "1");
    assert_eq!(read(dir.join("sub/b")), "2");
    assert_eq!(mode(dir.join("sub/b")), 0o400);
    let first = fs::read_link(dir.join("..data")).unwrap();
    // The same again changes nothing.
    atomic::write(
        dir,
        &files(&[("a", "1", 0o644), ("sub/b", "2", 0o400)]),
        None,
    )
    .unwrap();
    assert_eq!(fs::read_link(dir.join("..data")).unwrap(), first);
    // Whoever has the old directory open keeps it whole until it is closed.
    let old = fs::File::open(dir.join("a")).unwrap();
    atomic::write(dir, &files(&[("a", "one", 0o644), ("c", "3", 0o644)]), None).unwrap();
    assert_eq!(old.metadata().unwrap().len(), 1);
    assert_eq!(read(dir.join("a")), "one");
    assert_eq!(read(dir.join("c")), "3");
    assert!(!dir.join("sub").exists());
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<_> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names[1..], ["..data", "a", "c"].map(str::to_owned));
}

#[test]
fn planted_links_are_replaced_and_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious");
    fs::write(&precious, "x").unwrap();
    let volume = tempfile::tempdir().unwrap();
    let dir = volume.path();
    atomic::write(dir, &files(&[("a", "1", 0o644)]), None).unwrap();
    fs::remove_file(dir.join("a")).unwrap();
    symlink(&precious, dir.join("a")).unwrap();
    symlink(outside.path(), dir.join("b")).unwrap();
    symlink(outside.path(), dir.join("..data_tmp")).unwrap();
    atomic::write(dir, &files(&[("a", "2", 0o644)]), None).unwrap();
    assert_eq!(read(dir.join("a")), "2");
    assert!(!dir.join("b").exists());
    assert_eq!(read(&precious), "x");
}

#[test]
fn a_group_may_read_what_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    atomic::write(dir.path(), &files(&[("t", "1", 0o600)]), Some(1234)).unwrap();
    let file = fs::metadata(dir.path().join("t")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o777), (1234, 0o640));
}

#[test]
fn empty_dirs_on_disk_and_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("volumes/kubernetes.io~empty-dir/d");
    empty_dir(&disk, &EmptyDirVolumeSource::default(), None).unwrap();
    assert_eq!(mode(&disk), 0o777);
    fs::write(disk.join("kept"), "x").unwrap();
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o700)).unwrap();
    empty_dir(&disk, &EmptyDirVolumeSource::default(), None).unwrap();
    assert_eq!(
        (read(disk.join("kept")).as_str(), mode(&disk)),
        ("x", 0o700)
    );

    let memory = dir.path().join("volumes/kubernetes.io~empty-dir/m");
    let source: EmptyDirVolumeSource =
        serde_saphyr::from_str("{medium: Memory, sizeLimit: 64Ki}").unwrap();
    empty_dir(&memory, &source, Some(4321)).unwrap();
    empty_dir(&memory, &source, Some(4321)).unwrap();
    assert_eq!(
        (mode(&memory), fs::metadata(&memory).unwrap().gid()),
        (0o2777, 4321)
    );
    assert!(fs::write(memory.join("big"), vec![0; 128 << 10]).is_err());
    assert_eq!(mount_points_below(dir.path()).unwrap(), [memory]);

    unmount_now(dir.path()).unwrap();
    assert_eq!(mount_points_below(dir.path()).unwrap(), [] as [&Path; 0]);
    assert!(!dir.path().join("volumes").exists());
}

#[test]
fn host_paths_are_what_they_are_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, kind: &str| HostPathVolumeSource {
        path: dir.path().join(name).display().to_string(),
        type_: Some(kind.to_owned()),
    };
    let missing = host_path::check(&at("d", "Directory")).unwrap_err();
    let place = dir.path().join("d").display().to_string();
    assert_eq!(
        missing,
        format!("hostPath type check failed: {place} is not a directory")
    );
    host_path::check(&at("d", "")).unwrap();
    host_path::check(&at("d", "DirectoryOrCreate")).unwrap();
    host_path::check(&at("d", "Directory")).unwrap();
    host_path::check(&at("f", "FileOrCreate")).unwrap();
    host_path::check(&at("f", "File")).unwrap();
    assert!(host_path::check(&at("f", "Socket")).is_err());
    assert!(host_path::check(&at("../x", "")).is_err());
}

#[test]
fn sub_paths_do_not_leave_their_volume() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    let volume = dir.path().join("volume");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(volume.join("plain")).unwrap();
    fs::write(outside.join("secret"), "x").unwrap();
    fs::write(volume.join("plain/file"), "inside").unwrap();
    symlink("plain/file", volume.join("link")).unwrap();
    symlink(&outside, volume.join("escape")).unwrap();
    let pod_dir = dir.path().join("pod");
    let place = |index| subpath::Place {
        pod_dir: &pod_dir,
        volume: "v",
        path: &volume,
        container: "app",
        index,
    };
    let plain = subpath::prepare(&place(0), "plain").unwrap();
    assert_eq!(read(plain.join("file")), "inside");
    let link = subpath::prepare(&place(1), "link").unwrap();
    assert_eq!(read(&link), "inside");
    let made = subpath::prepare(&place(2), "new/deep").unwrap();
    fs::write(made.join("x"), "y").unwrap();
    assert_eq!(read(volume.join("new/deep/x")), "y");
    // A link to elsewhere leads to a place inside the volume, if anywhere.
    if let Ok(escaped) = subpath::prepare(&place(3), "escape") {
        assert!(!escaped.join("secret").exists());
    }
    assert!(subpath::prepare(&place(4), "../outside").is_err());
    assert!(subpath::prepare(&place(5), "/etc").is_err());
    // The same place again is the same mount.
    subpath::prepare(&place(0), "plain").unwrap();
    unmount_now(&pod_dir).unwrap();
    assert_eq!(mount_points_below(dir.path()).unwrap(), [] as [&Path; 0]);
    assert_eq!(
        read(volume.join("plain/file")),
        "inside",
        "the volume itself stays"
    );
}
