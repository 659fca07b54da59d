//! What we use of nftables, as plain data.

/// A place in the packet's way where a base chain listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before the routing decision.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After the routing decision.
    Postrouting,
}

impl Hook {
    /// The kernel's `NF_INET_*` number.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// A chain; a base chain has a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name inside the table.
    pub name: String,
    /// `nat` or `filter`, hook and priority of a base chain.
    pub base: Option<(&'static str, Hook, i32)>,
}

/// Where a packet goes next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Take it.
    Accept,
    /// Lose it silently.
    Drop,
    /// Back to the calling chain.
    Return,
    /// To a chain, and back after it.
    Jump(String),
    /// To a chain for good.
    Goto(String),
}

/// A 4-byte register, 0 to 15.
pub type Register = u8;

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads `len` bytes at `offset` of the network header.
    Network {
        /// Byte offset.
        offset: u32,
        /// Bytes.
        len: u32,
        /// Target.
        to: Register,
    },
    /// Loads `len` bytes at `offset` of the transport header.
    Transport {
        /// Byte offset.
        offset: u32,
        /// Bytes.
        len: u32,
        /// Target.
        to: Register,
    },
    /// Loads the transport protocol's number (one byte).
    Protocol(Register),
    /// Loads the packet's mark (host order).
    Mark(Register),
    /// Stores a register into the packet's mark.
    SetMark(Register),
    /// Loads the name of the interface it came in by, 16 bytes over four registers.
    InterfaceIn(Register),
    /// Loads the name of the interface it leaves by, 16 bytes over four registers.
    InterfaceOut(Register),
    /// Loads the type (`RTN_*`, host order) of the destination address.
    DestinationType(Register),
    /// Loads the type (`RTN_*`, host order) of the source address.
    SourceType(Register),
    /// Loads the connection's state bits (host order): 2 established, 4 related, 8 new.
    ConnectionState(Register),
    /// Loads what was done to the connection, as bits (host order, `IPS_*`).
    ConnectionStatus(Register),
    /// Loads a constant.
    Constant(Register, Vec<u8>),
    /// Goes on only if the register equals the bytes.
    Equal(Register, Vec<u8>),
    /// Goes on only if the register differs from the bytes.
    NotEqual(Register, Vec<u8>),
    /// `register = (register & mask) ^ xor`.
    Bitwise(Register, Vec<u8>, Vec<u8>),
    /// Goes on only if the registers from here on are a key of the set.
    Lookup(Register, String),
    /// Goes on only if they are not.
    LookupNot(Register, String),
    /// Loads the map's value at the key that starts in the first register into the second.
    Map(Register, String, Register),
    /// Takes the verdict of the verdict map at the key that starts in the register.
    VerdictMap(Register, String),
    /// Loads a random number below the modulus (host order).
    Random(Register, u32),
    /// Puts the two data registers into the map under the key that starts in the first register; an element that is there
    /// lives as long again. A full map stops the rule.
    Remember {
        /// Where the key starts.
        key: Register,
        /// A map of [`Data::Remembered`].
        map: String,
        /// Where the value starts.
        value: Register,
        /// How long it lives.
        seconds: u32,
    },
    /// Removes the element of the key that starts in the register from a map of [`Data::Remembered`], if it is there.
    Forget {
        /// Where the key starts.
        key: Register,
        /// The map.
        map: String,
        /// Two loaded registers: the kernel asks for a value, and ignores it.
        value: Register,
    },
    /// Rewrites destination address and port from two registers.
    Dnat(Register, Register),
    /// Rewrites the source to the address of the outgoing interface.
    Masquerade,
    /// Answers that the port is unreachable.
    Reject,
    /// Counts packets and bytes.
    Counter,
    /// Decides.
    Verdict(Verdict),
}

/// A rule: its steps in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(pub Vec<Expr>);

/// What a set's elements carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: a plain set.
    None,
    /// A verdict: a verdict map.
    Verdict,
    /// An address and a port: 8 bytes.
    AddressAndPort,
    /// The same, put there by rules ([`Expr::Remember`]) for a while.
    Remembered,
}

/// A set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name inside the table.
    pub name: String,
    /// The parts of the key, in order.
    pub key: Vec<KeyPart>,
    /// What elements carry.
    pub data: Data,
}

/// One part of a key; every part takes a multiple of 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// IPv4 address.
    Address,
    /// Transport protocol.
    Protocol,
    /// Port.
    Port,
    /// A number in host order.
    Number,
}

impl KeyPart {
    /// nft's number of the data type, for listings.
    pub(crate) fn type_number(self) -> u32 {
        match self {
            Self::Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Number => 19,
        }
    }
}

/// An element's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A plain set has none.
    None,
    /// Of a verdict map.
    Verdict(Verdict),
    /// Of a data map.
    Data(Vec<u8>),
}

/// One change inside a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes the table when it is not there.
    AddTable,
    /// Removes the table with all in it; a table must be there.
    DeleteTable,
    /// Makes a chain when it is not there.
    AddChain(Chain),
    /// Removes all rules of a chain.
    FlushChain(String),
    /// Removes a chain that nothing refers to.
    DeleteChain(String),
    /// Appends a rule to a chain.
    AddRule(String, Rule),
    /// Makes a set when it is not there.
    AddSet(Set),
    /// Adds elements to a set.
    AddElements(String, Vec<(Vec<u8>, Value)>),
    /// Removes elements, which must be there, from a set.
    DeleteElements(String, Vec<Vec<u8>>),
}

/// Changes of one table, applied together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The table's name.
    pub table: String,
    /// In the order of application.
    pub changes: Vec<Change>,
}

impl Batch {
    /// No changes yet.
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            changes: Vec::new(),
        }
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
