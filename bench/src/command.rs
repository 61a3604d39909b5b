//! A client command in one line: `command!("SET", key, value, "EX", 60)`.

/// A [`redis::Cmd`] of a name and arguments of any type that redis takes.
#[macro_export]
macro_rules! command {
    ($name:expr $(, $argument:expr)* $(,)?) => {{
        #[allow(unused_mut, reason = "commands without arguments")]
        let mut command = redis::cmd($name);
        $(command.arg($argument);)*
        command
    }};
}
