//! What of this host the image `host` is made from: the lists, and nothing else.
//!
//! Every entry is public on any machine of its kind. Not on the list, and never to be: `shadow`,
//! `passwd`, `group`, `hostname`, `hosts`, `machine-id`, `ssh`, `ssl/private`, `profile`,
//! `environment`, and the configuration of package managers, which can hold credentials.

/// The search path for programs.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories that are links into `/usr` on a merged system and directories on older ones.
pub(super) const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Files and directories of `/etc`. Directories are copied whole, but only regular files that
/// everyone may read, and links.
pub(super) const ETC: [&str; 34] = [
    // What the dynamic linker needs, and the links by which Debian chooses programs.
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    // Public certificates; their keys are in `ssl/private`.
    "ssl/certs",
    "ssl/openssl.cnf",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "pki/tls/openssl.d",
    "pki/tls/cert.pem",
    "pki/ca-trust/extracted",
    "pki/java/cacerts",
    "ca-certificates.conf",
    "crypto-policies/back-ends",
    // Names that programs look up.
    "services",
    "protocols",
    "rpc",
    "ethertypes",
    "mime.types",
    "shells",
    "gai.conf",
    "host.conf",
    "xattr.conf",
    "magic",
    "magic.mime",
    "terminfo",
    "inputrc",
    // Time and release.
    "localtime",
    "timezone",
    "os-release",
    "debian_version",
    // Parts of language runtimes that distributions move out of `/usr`.
    "perl",
    "fonts",
    "maven/m2.conf",
];

/// Directories of `/etc` whose names begin so, such as `python3.11` and `java-17-openjdk`: parts
/// of language runtimes as well.
pub(super) const ETC_PREFIXES: [&str; 2] = ["python3", "java-"];

/// Files that are in the directories above on some machines and are not for others.
pub(super) fn is_private(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "private", "credential", "jmxremote", ".key"]
        .iter()
        .any(|word| name.contains(word))
}
