//! The seeded choice of what is written next.

use fastrand::Rng;
use redis::Cmd;

/// One family of steps and how often it comes, out of the sum of all weights.
type Family = (u32, fn(&mut Generator) -> Vec<Cmd>);

const FAMILIES: &[Family] = &[
    (30, Generator::string_step),
    (8, Generator::number_step),
    (6, Generator::bits_step),
    (12, Generator::expiry_step),
    (14, Generator::list_step),
    (12, Generator::set_step),
    (14, Generator::hash_step),
    (16, Generator::sorted_set_step),
    (4, Generator::place_step),
    (3, Generator::log_step),
    (16, Generator::stream_step),
    (5, Generator::whole_key_step),
    (4, Generator::transaction_step),
    (3, Generator::script_step),
    (4, Generator::database_step),
];

/// An endless sequence of commands. Steps depend on the seed alone, never on what the store answers.
#[derive(Debug)]
pub struct Generator {
    pub(super) rng: Rng,
    pub(super) keys_per_type: u32,
    /// Time part of the last stream id; ids of the load only grow.
    pub(super) stream_clock: u64,
}

impl Generator {
    #[must_use]
    pub fn new(seed: u64, keys_per_type: u32) -> Self {
        Self { rng: Rng::with_seed(seed), keys_per_type: keys_per_type.max(2), stream_clock: 0 }
    }

    /// The commands of one step: they belong together and begin and end in database 0.
    pub fn step(&mut self) -> Vec<Cmd> {
        let total: u32 = FAMILIES.iter().map(|(weight, _)| weight).sum();
        let mut pick = self.rng.u32(0..total);
        for (weight, step) in FAMILIES {
            match pick.checked_sub(*weight) {
                Some(left) => pick = left,
                None => return step(self),
            }
        }
        Vec::new()
    }

    /// A key of one type, such as `l:s:17`. Low numbers come more often, as real keys do.
    pub(super) fn key(&mut self, kind: &str) -> String {
        let limit = self.rng.u32(1..=self.keys_per_type);
        format!("l:{kind}:{}", self.rng.u32(0..limit))
    }

    /// Two different keys of one type.
    pub(super) fn two_keys(&mut self, kind: &str) -> (String, String) {
        let first = self.rng.u32(0..self.keys_per_type);
        let second = (first + self.rng.u32(1..self.keys_per_type)) % self.keys_per_type;
        (format!("l:{kind}:{first}"), format!("l:{kind}:{second}"))
    }

    /// Mostly short words, sometimes numbers, seldom something long or binary.
    pub(super) fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(0..20) {
            0 => self.rng.i64(..).to_string().into_bytes(),
            1 => vec![b'x'; self.rng.usize(100..3000)],
            2 => {
                let mut bytes = vec![0; self.rng.usize(0..200)];
                self.rng.fill(&mut bytes);
                bytes
            }
            _ => self.word().into_bytes(),
        }
    }

    pub(super) fn word(&mut self) -> String {
        let length = self.rng.usize(1..24);
        (0..length).map(|_| self.rng.lowercase()).collect()
    }

    /// One of a few members, so that commands meet members that are there.
    pub(super) fn member(&mut self) -> String {
        format!("m{}", self.rng.u32(0..40))
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T], otherwise: T) -> T {
        self.rng.choice(choices).copied().unwrap_or(otherwise)
    }

    /// Seconds to live that outlast a test, seldom ones that end within it.
    pub(super) fn ttl_s(&mut self) -> u32 {
        if self.rng.u32(0..8) == 0 { self.rng.u32(1..3) } else { self.rng.u32(600..7200) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(seed: u64, steps: usize) -> Vec<u8> {
        let mut generator = Generator::new(seed, 50);
        let mut packed = Vec::new();
        for _ in 0..steps {
            generator.step().iter().for_each(|command| command.write_packed_command(&mut packed));
        }
        packed
    }

    #[test]
    fn the_same_seed_gives_the_same_commands_and_another_one_others() {
        assert_eq!(packed(7, 2000), packed(7, 2000));
        assert_ne!(packed(7, 2000), packed(8, 2000));
    }

    #[test]
    fn two_keys_are_two() {
        let mut generator = Generator::new(1, 2);
        for _ in 0..100 {
            let (first, second) = generator.two_keys("s");
            assert_ne!(first, second);
        }
    }
}
