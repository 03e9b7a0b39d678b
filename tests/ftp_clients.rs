//! Real clients in every mode they know: each uploads, lists and fetches a page, plain and over TLS with
//! a self-signed certificate. `scripts/test-deps` installs them; one that is missing is told on standard
//! error and skipped.

mod ftp_support;

use ftp_support::{House, certificate};
use inkport::ftp::Settings;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    Plain,
    Explicit,
    /// From the first byte, on a port of its own.
    Implicit,
}

/// How a client is made to do a thing.
struct Way {
    name: &'static str,
    tls: Tls,
    listen: &'static str,
    /// A shell script that uploads `$FILE` as `$NAME`, lists into `$LIST` and fetches into `$OUT`, from
    /// `$HOST`, `$PORT`.
    script: String,
    /// Not every client can list.
    lists: bool,
    /// What else tells it from others of its name.
    note: &'static str,
}

fn way(name: &'static str, tls: Tls, script: impl Into<String>) -> Way {
    Way { name, tls, listen: "127.0.0.1:0", script: script.into(), lists: true, note: "" }
}

fn clients() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-clients"))
}

/// Not captured, unlike what a passing test prints.
fn skip(client: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {client}: {why}; `make setup-tests` installs it");
}

fn is_installed(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|at| at.join(program).is_file()));
    if !found {
        skip(program, "it is not installed");
    }
    found
}

/// Goes every way; tells all that failed.
fn go(client: &str, ways: Vec<Way>) {
    let pair = certificate();
    let page: Vec<u8> = (0..300_001u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut failures = Vec::new();
    for way in &ways {
        let mut settings = if way.tls == Tls::Plain { Settings::default() } else { pair.settings("require = \"login\"") };
        settings.listen = way.listen.parse().unwrap();
        if way.tls == Tls::Implicit {
            settings.tls.as_mut().unwrap().implicit_listen = Some(settings.listen);
        }
        let house = House::open_with(settings, Duration::from_secs(60));
        if let Err(problem) = try_way(&house, way, &page) {
            failures.push(format!("{client} {:?} {} {}: {problem}", way.tls, way.name, way.note));
        }
    }
    assert!(failures.is_empty(), "{} of {} ways failed:\n{}", failures.len(), ways.len(), failures.join("\n"));
    let _ = writeln!(std::io::stderr(), "{client}: {} ways", ways.len());
}

fn try_way(house: &House, way: &Way, page: &[u8]) -> Result<(), String> {
    const NAME: &str = "scan.jpg";
    let folder = tempfile::tempdir().unwrap();
    let (file, list, out) = (folder.path().join(NAME), folder.path().join("list"), folder.path().join("out"));
    fs::write(&file, page).unwrap();
    // `timeout` ends a client that hangs, children and all.
    let ran = Command::new("timeout")
        .args(["--kill-after=5", "60", "bash", "-euo", "pipefail", "-c", &way.script])
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("HOST", house.address.ip().to_string())
        .env("PORT", if way.tls == Tls::Implicit { house.implicit.unwrap() } else { house.address }.port().to_string())
        .env("NAME", NAME)
        .env("FILE", &file)
        .env("LIST", &list)
        .env("OUT", &out)
        .env("PYTHONPATH", clients().join("python"))
        .env("NODE_PATH", clients().join("node/node_modules"))
        .output()
        .unwrap();
    let said = || format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if !ran.status.success() {
        return Err(format!("{}: {}", ran.status, said()));
    }
    let same = |what: &str, path: &Path| match fs::read(path) {
        Ok(bytes) if bytes == page => Ok(()),
        Ok(bytes) => Err(format!("{what} {} bytes of {}: {}", bytes.len(), page.len(), said())),
        Err(error) => Err(format!("{what} nothing ({error}): {}", said())),
    };
    same("stored", &house.home(NAME))?;
    same("fetched", &out)?;
    let listed = fs::read_to_string(&list).unwrap_or_default();
    if way.lists && !listed.contains(NAME) {
        return Err(format!("the listing is {listed:?}: {}", said()));
    }
    house.nothing_is_staged();
    match house.jobs().len() {
        1 => Ok(()),
        jobs => Err(format!("{jobs} jobs for one upload")),
    }
}

#[test]
fn curl() {
    if !is_installed("curl") {
        return;
    }
    let script = |options: &str| {
        format!(
            "c() {{ curl --silent --show-error --insecure --user desk:secret {options} \"$@\"; }}\n\
             at=ftp://$HOST:$PORT\nc --upload-file $FILE $at/$NAME\nc $at/ >$LIST\nc --output $OUT $at/$NAME"
        )
    };
    let mut ways = Vec::new();
    // curl/curl#10666: these forget the TLS of active data connections.
    let version = Command::new("curl").arg("--version").output().unwrap().stdout;
    let active_tls = !version.starts_with(b"curl 7.87.") && !version.starts_with(b"curl 7.88.");
    if !active_tls {
        let _ = writeln!(std::io::stderr(), "skipped: curl in active mode over TLS: curl 7.87 and 7.88 cannot (curl/curl#10666)");
    }
    for (tls, encrypted) in [
        (Tls::Plain, ""),
        (Tls::Explicit, "--ssl-reqd --tlsv1.3"),
        (Tls::Explicit, "--ssl-reqd --tls-max 1.2"),
        (Tls::Implicit, "--tlsv1.3"),
        (Tls::Implicit, "--tls-max 1.2"),
    ] {
        for (name, options) in [
            ("EPSV", ""),
            ("PASV", "--disable-epsv"),
            ("EPRT", "--ftp-port -"),
            ("PORT", "--disable-eprt --ftp-port -"),
            ("no CWD", "--ftp-method nocwd"),
            ("one CWD", "--ftp-method singlecwd"),
            ("folders made", "--ftp-create-dirs"),
        ] {
            if tls == Tls::Plain || active_tls || !options.contains("--ftp-port") {
                let scheme = if tls == Tls::Implicit { "at=ftps://" } else { "at=ftp://" };
                let script = script(&format!("{encrypted} {options}")).replace("at=ftp://", scheme);
                ways.push(Way { note: encrypted, ..way(name, tls, script) });
            }
        }
    }
    for (name, options) in [("IPv6 EPSV", ""), ("IPv6 EPRT", "--ftp-port -")] {
        let script = script(options).replace("ftp://$HOST", "ftp://[$HOST]");
        ways.push(Way { listen: "[::1]:0", ..way(name, Tls::Plain, script) });
    }
    go("curl", ways);
}

#[test]
fn lftp() {
    if !is_installed("lftp") {
        return;
    }
    let mut ways = Vec::new();
    const ENCRYPTED: &str = "set ftp:ssl-force yes; set ftp:ssl-protect-data yes";
    const TLS_1_2: &str = "set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set ssl:priority NORMAL:-VERS-ALL:+VERS-TLS1.2";
    for (tls, encrypted) in [
        (Tls::Plain, "set ftp:ssl-allow no"),
        (Tls::Explicit, ENCRYPTED),
        (Tls::Explicit, TLS_1_2),
        (Tls::Implicit, ENCRYPTED),
        (Tls::Implicit, TLS_1_2),
    ] {
        for (name, options) in [
            ("PASV", "set ftp:prefer-epsv no"),
            ("EPSV", "set ftp:prefer-epsv yes"),
            ("PORT", "set ftp:passive-mode no"),
            ("MLSD", "set ftp:use-mlsd yes"),
            ("STAT", "set ftp:use-stat yes; set ftp:use-stat-for-list yes"),
        ] {
            let script = format!(
                "lftp --norc -u desk,secret -p $PORT -e \"set cmd:fail-exit yes; set net:max-retries 1; set net:timeout 20; \
                 set ssl:verify-certificate no; {encrypted}; {options}; put $FILE -o $NAME; cls -1 > $LIST; get $NAME -o $OUT; bye\" {}$HOST",
                if tls == Tls::Implicit { "ftps://" } else { "" }
            );
            ways.push(Way { note: encrypted, ..way(name, tls, script) });
        }
    }
    ways.push(way(
        "mirror",
        Tls::Plain,
        "mkdir tree; cp $FILE tree/\nlftp --norc -u desk,secret -p $PORT -e \"set cmd:fail-exit yes; set net:max-retries 1; \
         mirror -R tree .; ls > $LIST; mirror . back; bye\" $HOST\ncp back/$NAME $OUT",
    ));
    go("lftp", ways);
}

#[test]
fn ncftp() {
    if !is_installed("ncftpput") || !is_installed("ncftpls") || !is_installed("ncftpget") {
        return;
    }
    let script = |mode: &str, put: &str| {
        format!(
            "o=\"-u desk -p secret -P $PORT {mode}\"\nncftpput $o {put} $HOST / $FILE\nncftpls $o ftp://$HOST/ >$LIST\n\
             ncftpget $o -c $HOST /$NAME >$OUT"
        )
    };
    go(
        "ncftp",
        vec![
            way("PASV", Tls::Plain, script("-F", "")),
            way("PORT", Tls::Plain, script("-E", "")),
            way("temporary name, PASV", Tls::Plain, script("-F", "-S .tmp")),
            way("temporary name, PORT", Tls::Plain, script("-E", "-T .part.")),
            way("SITE UTIME", Tls::Plain, script("-F", "-y")),
            way("MKD first", Tls::Plain, script("-F", "-m")),
        ],
    );
}

#[test]
fn tnftp() {
    if !is_installed("tnftp") {
        return;
    }
    let script = |flags: &str, commands: &str| {
        format!(
            "printf '%s\\n' 'user desk secret' binary {commands} \"put $FILE $NAME\" \"ls . $LIST\" \"get $NAME $OUT\" quit | \
             tnftp -n -i -v {flags} $HOST $PORT"
        )
    };
    let url = "tnftp -u ftp://desk:secret@$HOST:$PORT/$NAME $FILE\ntnftp -o $OUT ftp://desk:secret@$HOST:$PORT/$NAME\n\
               tnftp -o $LIST ftp://desk:secret@$HOST:$PORT/";
    go(
        "tnftp",
        vec![
            way("passive", Tls::Plain, script("-p", "")),
            way("PASV", Tls::Plain, script("-p", "epsv4")),
            way("active", Tls::Plain, script("-A", "")),
            way("PORT", Tls::Plain, script("-A", "epsv4")),
            Way { lists: false, ..way("URL", Tls::Plain, url.lines().take(2).collect::<Vec<_>>().join("\n")) },
            Way { listen: "[::1]:0", ..way("IPv6 passive", Tls::Plain, script("-p", "")) },
            Way { listen: "[::1]:0", ..way("IPv6 active", Tls::Plain, script("-A", "")) },
        ],
    );
}

#[test]
fn busybox() {
    if !is_installed("busybox") {
        return;
    }
    let script = "o=\"-u desk -p secret -P $PORT\"\nbusybox ftpput $o $HOST $NAME $FILE\nbusybox ftpget $o $HOST $OUT $NAME";
    let wget = "busybox ftpput -u desk -p secret -P $PORT $HOST $NAME $FILE\nbusybox wget -q -O $OUT ftp://desk:secret@$HOST:$PORT/$NAME";
    go(
        "busybox",
        vec![Way { lists: false, ..way("ftpput", Tls::Plain, script) }, Way { lists: false, ..way("wget", Tls::Plain, wget) }],
    );
}

#[test]
fn ftplib() {
    if !is_installed("python3") {
        return;
    }
    let script = |class: &str, after: &str, mode: &str| {
        format!(
            "python3 - <<'END'\nimport ftplib, os, socket, ssl\n\
             e = os.environ\nc = ssl._create_unverified_context()\n\
             class Implicit(ftplib.FTP_TLS):\n\
             \x20 @property\n\
             \x20 def sock(self): return self._sock\n\
             \x20 @sock.setter\n\
             \x20 def sock(self, value):\n\
             \x20   if value is not None and not isinstance(value, ssl.SSLSocket): value = self.context.wrap_socket(value)\n\
             \x20   self._sock = value\n\
             {class}\nf.connect(e['HOST'], int(e['PORT'])); f.login('desk', 'secret')\n\
             {after}\n{mode}\n\
             f.storbinary('STOR ' + e['NAME'], open(e['FILE'], 'rb'))\n\
             lines = []; f.dir(lines.append); assert f.nlst() == [e['NAME']], f.nlst()\n\
             assert [name for name, facts in f.mlsd()] == [e['NAME']]\nf.voidcmd('TYPE I'); assert f.size(e['NAME']) == 300001\n\
             open(e['LIST'], 'w').write('\\n'.join(lines))\n\
             f.retrbinary('RETR ' + e['NAME'], open(e['OUT'], 'wb').write)\n\
             assert f.mkd('new') == '/new', f.mkd\nf.cwd('new'); assert f.pwd() == '/new'; f.cwd('..'); f.rmd('new'); f.quit()\nEND"
        )
    };
    let mut ways = Vec::new();
    for (tls, class, after) in [
        (Tls::Plain, "f = ftplib.FTP(timeout=30)", ""),
        (Tls::Explicit, "f = ftplib.FTP_TLS(timeout=30, context=c)", "f.prot_p()"),
        (Tls::Explicit, "f = ftplib.FTP_TLS(timeout=30, context=c)", "f.prot_c()"),
        (Tls::Explicit, "c.maximum_version = ssl.TLSVersion.TLSv1_2; f = ftplib.FTP_TLS(timeout=30, context=c)", "f.prot_p()"),
        (Tls::Implicit, "f = Implicit(timeout=30, context=c)", "f.prot_p()"),
        (Tls::Implicit, "f = Implicit(timeout=30, context=c)", "f.prot_c()"),
        // PROT P is what such a session begins with.
        (Tls::Implicit, "f = Implicit(timeout=30, context=c)", "f._prot_p = True"),
        (Tls::Implicit, "c.maximum_version = ssl.TLSVersion.TLSv1_2; f = Implicit(timeout=30, context=c)", "f.prot_p()"),
    ] {
        for (name, listen, mode) in [
            ("PASV", "127.0.0.1:0", ""),
            ("PORT", "127.0.0.1:0", "f.set_pasv(False)"),
            ("EPSV", "127.0.0.1:0", "f.makepasv = lambda: ftplib.parse229(f.sendcmd('EPSV'), f.sock.getpeername())"),
            ("IPv6 EPSV", "[::1]:0", ""),
            ("IPv6 EPRT", "[::1]:0", "f.set_pasv(False)"),
        ] {
            ways.push(Way { listen, note: after, ..way(name, tls, script(class, after, mode)) });
        }
    }
    go("ftplib", ways);
}

#[test]
fn aioftp() {
    if !is_installed("python3") {
        return;
    }
    if !clients().join("python/aioftp").is_dir() {
        return skip("aioftp", "it was not fetched");
    }
    let script = |command: &str, version: &str, secure: &str| {
        // Implicit, it never says PROT: data is protected there from the beginning.
        let implicit = if secure == "implicit" { ", ssl=c" } else { "" };
        let secure = if secure == "explicit" { "await f.upgrade_to_tls(c)" } else { "pass" };
        format!(
            "python3 - <<'END'\nimport asyncio, os, ssl, aioftp\ne = os.environ\n\
             c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE\n\
             {version}\n\
             async def main():\n\
             \x20 f = aioftp.Client(socket_timeout=30, passive_commands=({command}){implicit})\n\
             \x20 await f.connect(e['HOST'], int(e['PORT']))\n\
             \x20 {secure}\n\
             \x20 await f.login('desk', 'secret')\n\
             \x20 await f.upload(e['FILE'], e['NAME'], write_into=True)\n\
             \x20 for raw in ('MLSD', 'LIST'):\n\
             \x20   names = [str(path) for path, facts in await f.list(raw_command=raw)]\n\
             \x20   open(e['LIST'], 'w').write('\\n'.join(names)); assert names == [e['NAME']], names\n\
             \x20 await f.download(e['NAME'], e['OUT'], write_into=True)\n\
             \x20 await f.quit()\n\
             asyncio.run(main())\nEND"
        )
    };
    // Over TLS it shakes hands on the passive connection before it sends STOR.
    const TLS_1_2: &str = "c.maximum_version = ssl.TLSVersion.TLSv1_2";
    const TLS_1_3: &str = "c.minimum_version = ssl.TLSVersion.TLSv1_3";
    let mut ways = Vec::new();
    for (tls, version, secure) in [
        (Tls::Plain, "", "plain"),
        (Tls::Explicit, TLS_1_2, "explicit"),
        (Tls::Explicit, TLS_1_3, "explicit"),
        (Tls::Implicit, TLS_1_2, "implicit"),
        (Tls::Implicit, TLS_1_3, "implicit"),
    ] {
        for (name, listen, command) in
            [("EPSV", "127.0.0.1:0", "'epsv',"), ("PASV", "127.0.0.1:0", "'pasv',"), ("IPv6", "[::1]:0", "'epsv',")]
        {
            ways.push(Way { listen, note: version, ..way(name, tls, script(command, version, secure)) });
        }
    }
    go("aioftp", ways);
}

#[test]
fn basic_ftp() {
    if !is_installed("node") {
        return;
    }
    if !clients().join("node/node_modules/basic-ftp").is_dir() {
        return skip("basic-ftp", "it was not fetched");
    }
    let script = |prepare: &str, secure: &str, version: &str| {
        format!(
            "node - <<'END'\nconst ftp = require('basic-ftp'), fs = require('fs'), e = process.env;\n\
             (async () => {{\n\
             const c = new ftp.Client(30000); {prepare}\n\
             await c.access({{host: e.HOST, port: +e.PORT, user: 'desk', password: 'secret', secure: {secure}, secureOptions: {{rejectUnauthorized: false{version}}}}});\n\
             await c.uploadFrom(e.FILE, e.NAME);\n\
             fs.writeFileSync(e.LIST, (await c.list()).map(f => f.name).join('\\n'));\n\
             await c.downloadTo(e.OUT, e.NAME);\n\
             await c.ensureDir('new/deeper'); await c.cd('/'); await c.removeDir('new');\n\
             c.close();\n\
             }})().catch(error => {{ console.error(error); process.exit(1); }});\nEND"
        )
    };
    let mut ways = Vec::new();
    for (tls, secure, version) in [
        (Tls::Plain, "false", ""),
        (Tls::Explicit, "true", ", minVersion: 'TLSv1.3'"),
        (Tls::Explicit, "true", ", maxVersion: 'TLSv1.2'"),
        (Tls::Implicit, "'implicit'", ", minVersion: 'TLSv1.3'"),
        (Tls::Implicit, "'implicit'", ", maxVersion: 'TLSv1.2'"),
    ] {
        for (name, listen, prepare) in [
            ("EPSV", "127.0.0.1:0", ""),
            ("PASV", "127.0.0.1:0", "c.prepareTransfer = ftp.enterPassiveModeIPv4;"),
            ("IPv6", "[::1]:0", ""),
        ] {
            ways.push(Way { listen, note: version, ..way(name, tls, script(prepare, secure, version)) });
        }
    }
    go("basic-ftp", ways);
}
