//! Which script an interpreter runs, from its command line.
//!
//! Only the path (or module, or class) is taken; every other argument is dropped unseen. Each interpreter
//! has its own options with a value, its own way to run code given inline, and its own way to name what
//! it runs; all the rest is one rule: the first argument that is no option.

/// What an interpreter was told to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Script<'a> {
    /// A file, as it was given.
    File(&'a [u8]),
    /// A module or class by its dotted name.
    Name(&'a [u8]),
    /// Code on the command line or from standard input, or a prompt.
    Inline,
}

struct Interpreter {
    /// Names of the executable, without its version.
    names: &'static [&'static str],
    /// Options whose value is the next argument.
    valued: &'static [&'static str],
    /// Options after which code is given inline.
    inline: &'static [&'static str],
    /// Options whose value names a module.
    module: &'static [&'static str],
    /// Options whose value (next argument, or joined) is the script's path.
    file: &'static [&'static str],
    /// Words that come before the script.
    words: &'static [&'static str],
    /// The first argument is a class name, not a path.
    class: bool,
}

const PLAIN: Interpreter =
    Interpreter { names: &[], valued: &[], inline: &[], module: &[], file: &[], words: &[], class: false };

const INTERPRETERS: [Interpreter; 11] = [
    Interpreter {
        names: &["python", "pypy", "python-real", "ipython"],
        valued: &["-W", "-X", "--check-hash-based-pycs"],
        inline: &["-c"],
        module: &["-m"],
        ..PLAIN
    },
    Interpreter {
        names: &["bash", "sh", "dash", "ash", "hush", "zsh", "ksh", "mksh", "fish"],
        valued: &["-o", "+o", "-O", "+O", "--rcfile", "--init-file"],
        inline: &["-c"],
        ..PLAIN
    },
    Interpreter {
        names: &["node", "nodejs"],
        valued: &["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"],
        inline: &["-e", "--eval", "-p", "--print"],
        ..PLAIN
    },
    Interpreter {
        names: &["deno", "bun"],
        words: &["run"],
        valued: &["-c", "--config"],
        inline: &["eval"],
        ..PLAIN
    },
    Interpreter {
        names: &["java"],
        valued: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--upgrade-module-path",
            "--add-modules",
            "--add-opens",
            "--add-exports",
            "--add-reads",
            "--enable-native-access",
            "--limit-modules",
        ],
        module: &["-m", "--module"],
        file: &["-jar"],
        class: true,
        ..PLAIN
    },
    Interpreter { names: &["perl"], valued: &["-I"], inline: &["-e", "-E"], ..PLAIN },
    Interpreter { names: &["ruby"], valued: &["-I", "-r", "-C"], inline: &["-e"], ..PLAIN },
    Interpreter { names: &["php"], valued: &["-c", "-d", "-z"], inline: &["-r"], file: &["-f"], ..PLAIN },
    Interpreter {
        names: &["R", "Rscript"],
        valued: &["-g", "-d"],
        inline: &["-e"],
        file: &["-f", "--file"],
        ..PLAIN
    },
    Interpreter {
        names: &["julia", "lua", "luajit", "tclsh", "guile", "groovy"],
        valued: &["-L", "-p", "-t", "-J", "-C", "-l", "--project", "--threads", "--procs", "--sysimage"],
        inline: &["-e", "-E", "--eval"],
        ..PLAIN
    },
    // The dynamic linker called by name runs a program as an interpreter runs a script.
    Interpreter {
        names: &["ld-linux-x86-64.so", "ld-linux-aarch64.so", "ld-linux.so", "ld-musl-x86_64.so"],
        valued: &["--library-path", "--preload", "--argv0", "--inhibit-rpath", "--audit"],
        ..PLAIN
    },
];

/// Many programs in one executable, each called by its name: `cat FILE` is no script FILE.
const MANY: [&[u8]; 2] = [b"busybox", b"toybox"];

/// A path that is longer is no path (PATH_MAX).
const MAX_PATH: usize = 4096;

/// `None` where the executable is no interpreter. `cmdline` is NUL-separated.
pub(super) fn script<'a>(exe_name: &[u8], cmdline: &'a [u8]) -> Option<Script<'a>> {
    let mut arguments = cmdline.split(|&byte| byte == 0);
    let called = base(arguments.next().unwrap_or_default());
    if !MANY.contains(&exe_name) {
        return Some(run_by(interpreter(without_version(exe_name))?, arguments));
    }
    let program = if MANY.contains(&called) { base(arguments.next().unwrap_or_default()) } else { called };
    Some(interpreter(program).map_or_else(|| named(program), |shell| run_by(shell, arguments)))
}

fn interpreter(name: &[u8]) -> Option<&'static Interpreter> {
    INTERPRETERS.iter().find(|one| one.names.iter().any(|known| known.as_bytes() == name))
}

/// The last part of a path; a login shell's name begins with `-`.
fn base(path: &[u8]) -> &[u8] {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name.strip_prefix(b"-").unwrap_or(name)
}

/// What an interpreter runs, from what follows its own name.
fn run_by<'a>(interpreter: &Interpreter, mut arguments: impl Iterator<Item = &'a [u8]>) -> Script<'a> {
    let is = |argument: &[u8], list: &[&str]| list.iter().any(|option| option.as_bytes() == argument);
    while let Some(argument) = arguments.next() {
        if argument.is_empty() {
            continue;
        }
        if argument == b"--" {
            return arguments.next().map_or(Script::Inline, first);
        }
        if is(argument, interpreter.inline) || argument == b"-" {
            return Script::Inline;
        }
        if is(argument, interpreter.module) {
            return arguments.next().map_or(Script::Inline, named);
        }
        if is(argument, interpreter.file) {
            return arguments.next().map_or(Script::Inline, first);
        }
        if let Some(path) = joined(argument, interpreter.file) {
            return first(path);
        }
        if is(argument, interpreter.valued) {
            arguments.next();
            continue;
        }
        if interpreter.inline.contains(&"-c") && bundle_ends_inline(argument) {
            return Script::Inline;
        }
        if argument.starts_with(b"-") || argument.starts_with(b"+") || is(argument, interpreter.words) {
            continue;
        }
        return if interpreter.class { named(argument) } else { first(argument) };
    }
    Script::Inline
}

/// `python3.11` and `ruby-3.2` are `python` and `ruby`.
fn without_version(name: &[u8]) -> &[u8] {
    let mut name = name;
    while let [rest @ .., b'0'..=b'9' | b'.' | b'-'] = name {
        name = rest;
    }
    name
}

/// `--file=path`.
fn joined<'a>(argument: &'a [u8], options: &[&str]) -> Option<&'a [u8]> {
    let name_end = argument.iter().position(|&byte| byte == b'=')?;
    let (name, value) = argument.split_at_checked(name_end)?;
    let known = options.iter().any(|option| option.as_bytes() == name);
    value.get(1..).filter(|_| known)
}

/// `-lc` and `-ic` of the shells, `-uc` of Python: short options in one word, code follows.
fn bundle_ends_inline(argument: &[u8]) -> bool {
    match argument {
        [b'-', letters @ .., b'c'] => letters.iter().all(u8::is_ascii_alphabetic),
        _ => false,
    }
}

/// A path, unless it cannot be one: a command line that a program has rewritten holds anything.
fn first(argument: &[u8]) -> Script<'_> {
    let is_path = argument.len() <= MAX_PATH
        && !argument.is_empty()
        && !argument.contains(&b'=')
        && !argument.windows(3).any(|window| window == b"://");
    if is_path { Script::File(argument) } else { Script::Inline }
}

fn named(argument: &[u8]) -> Script<'_> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._$/-".contains(byte);
    if !argument.is_empty() && argument.len() <= 256 && argument.iter().all(is_name) {
        Script::Name(argument)
    } else if argument.ends_with(b".java") {
        first(argument)
    } else {
        Script::Inline
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of<'a>(exe: &str, cmdline: &'a str) -> Option<Script<'a>> {
        script(exe.as_bytes(), cmdline.as_bytes())
    }

    #[test]
    fn what_is_run() {
        let file = |path: &'static str| Some(Script::File(path.as_bytes()));
        let name = |name: &'static str| Some(Script::Name(name.as_bytes()));
        let table = [
            ("python3.11", "python3\0-u\0-X\0dev\0train.py\0--token\0hunter2\0", file("train.py")),
            (
                "python3.11",
                "python\0-W\0ignore\0-m\0torch.distributed.run\0x.py\0",
                name("torch.distributed.run"),
            ),
            ("python3.11", "python\0-c\0print('secret')\0", Some(Script::Inline)),
            ("python3.11", "python\0-Ic\0code\0", Some(Script::Inline)),
            ("python3.11", "python: worker 7", Some(Script::Inline)),
            ("python3.11", "python\0-\0arg\0", Some(Script::Inline)),
            ("python3", "python\0TOKEN=x\0", Some(Script::Inline)),
            ("bash", "bash\0-e\0-o\0pipefail\0/run.sh\0x\0", file("/run.sh")),
            ("bash", "bash\0-lc\0curl -H token\0", Some(Script::Inline)),
            ("bash", "-bash\0", Some(Script::Inline)),
            ("node", "node\0--max-old-space-size=4096\0-r\0esm\0server.js\0", file("server.js")),
            ("java", "java\0-Xmx1g\0-Dpassword=x\0-jar\0app.jar\0y\0", file("app.jar")),
            (
                "java",
                "java\0-cp\0a.jar:b.jar\0org.apache.spark.Executor\0--url\0",
                name("org.apache.spark.Executor"),
            ),
            ("java", "java\0-cp\0a\0user:pass@host\0", Some(Script::Inline)),
            ("R", "R\0--no-echo\0--file=fit.R\0--args\0k\0", file("fit.R")),
            ("perl5.36", "perl\0-w\0-I\0lib\0x.pl\0", file("x.pl")),
            ("deno", "deno\0run\0--allow-all\0main.ts\0", file("main.ts")),
            ("busybox", "sh\0/x.sh\0", file("/x.sh")),
            ("busybox", "/bin/busybox\0ash\0-e\0/x.sh\0", file("/x.sh")),
            ("busybox", "-sh\0", Some(Script::Inline)),
            ("busybox", "/bin/busybox\0sh\0-c\0cat /data/a\0", Some(Script::Inline)),
            ("busybox", "cat\0/data/a.jpg\0", name("cat")),
            ("busybox", "/bin/busybox\0md5sum\0/data/a.jpg\0", name("md5sum")),
            ("toybox", "/usr/bin/tar\0-cf\0/data/a.tar\0", name("tar")),
            ("busybox", "", Some(Script::Inline)),
            (
                "ld-linux-x86-64.so.2",
                "ld\0--library-path\0/lib\0/usr/bin/duckdb\0db\0",
                file("/usr/bin/duckdb"),
            ),
            ("duckdb", "duckdb\0file.db\0", None),
            ("cat", "cat\0secret\0", None),
        ];
        for (exe, cmdline, expected) in table {
            assert_eq!(of(exe, cmdline), expected, "{cmdline:?}");
        }
    }

    proptest! {
        #[test]
        fn any_command_line_is_read(exe in "(python3|bash|java|R|node|busybox)", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            script(exe.as_bytes(), &bytes);
        }
    }
}
