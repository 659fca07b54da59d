//! Which user and groups a container runs as. A number always means that number: never a name that
//! looks like one, never root because it was too large to understand.

use serde::{Deserialize, Serialize};

/// Files of users and groups are read up to this length.
pub const MAX_DATABASE_BYTES: u64 = 1024 * 1024;

/// What pod and image say about the user, before the container's own user database is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserChoice {
    /// `user[:group]`, each by name or number, or empty for root.
    pub user: String,
    /// Groups that the pod adds.
    pub supplemental_groups: Vec<u32>,
    /// True when the image's `/etc/group` adds nothing.
    pub strict: bool,
}

/// Who the container runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All supplementary groups, the primary one included, in ascending order.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// Why no user can be made out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUser {
    /// Not in `/etc/passwd`.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    Name(String),
    /// Not in `/etc/group`.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// A number that the kernel does not have.
    #[error("user or group ID {0} is out of range")]
    Range(String),
    /// A group was given without a user.
    #[error("user group is specified without user")]
    GroupWithoutUser,
}

/// What the CRI says about the user, joined with the image's `USER`: the pod's choice wins as a
/// whole.
pub fn choose(
    run_as_user: Option<i64>,
    run_as_username: &str,
    run_as_group: Option<i64>,
    image_user: &str,
) -> Result<String, NoUser> {
    let user = match (run_as_user, run_as_username) {
        (Some(uid), _) => uid.to_string(),
        (None, "") => {
            if run_as_group.is_some() {
                return Err(NoUser::GroupWithoutUser);
            }
            return Ok(image_user.to_owned());
        }
        (None, name) => name.to_owned(),
    };
    Ok(match run_as_group {
        Some(gid) => format!("{user}:{gid}"),
        None => user,
    })
}

/// The numeric UID or the name in an image's `USER`, as the CRI reports it: the kubelet judges
/// `runAsNonRoot` by it.
pub fn image_user(user: &str) -> Result<(Option<i64>, String), NoUser> {
    let user = user.split(':').next().unwrap_or_default();
    match number(user)? {
        Some(uid) => Ok((Some(uid.into()), String::new())),
        None => Ok((None, user.to_owned())),
    }
}

/// Finds the user in the container's `/etc/passwd` and `/etc/group` (empty text when there is
/// none).
pub fn resolve(choice: &UserChoice, passwd: &str, group: &str) -> Result<User, NoUser> {
    let (name, group_name) = match choice.user.split_once(':') {
        Some((name, group_name)) => (name, Some(group_name)),
        None => (choice.user.as_str(), None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = match number(name)? {
        Some(uid) => {
            let known = users(passwd).find(|user| user.uid == uid);
            known.unwrap_or(Entry {
                name: "",
                uid,
                gid: 0,
                home: "/",
            })
        }
        None => users(passwd)
            .find(|user| user.name == name)
            .ok_or_else(|| NoUser::Name(name.to_owned()))?,
    };
    let gid = match group_name {
        None | Some("") => entry.gid,
        Some(text) => match number(text)? {
            Some(gid) => gid,
            None => groups(group)
                .find(|(name, _, _)| *name == text)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| NoUser::Group(text.to_owned()))?,
        },
    };
    let mut all = choice.supplemental_groups.clone();
    all.push(gid);
    if !choice.strict && !entry.name.is_empty() {
        let member = |members: &str| members.split(',').any(|member| member == entry.name);
        all.extend(
            groups(group)
                .filter(|(_, _, m)| member(m))
                .map(|(_, gid, _)| gid),
        );
    }
    all.sort_unstable();
    all.dedup();
    let home = if entry.home.is_empty() {
        "/"
    } else {
        entry.home
    };
    Ok(User {
        uid: entry.uid,
        gid,
        groups: all,
        home: home.to_owned(),
    })
}

/// A text of digits as an ID; `None` when it is a name. Out of range is an error, never a name and
/// never another number.
fn number(text: &str) -> Result<Option<u32>, NoUser> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text
        .parse::<u32>()
        .ok()
        .filter(|id| i32::try_from(*id).is_ok());
    id.map(Some).ok_or_else(|| NoUser::Range(text.to_owned()))
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The well-formed lines of a passwd file; the others are skipped, as the C library does.
fn users(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Entry {
            name,
            uid,
            gid,
            home: fields.nth(1).unwrap_or_default(),
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}
