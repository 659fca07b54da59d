//! From text to a tree. Depth and size are bounded, so that nothing that walks the tree has to be.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::check::{Type, Types};

const MAX_DEPTH: usize = 120;
const MAX_NODES: usize = 20_000;
const MAX_LENGTH: usize = 64 * 1024;

/// The variable that holds a list while it is sorted.
const SORTED: &str = "@__sortBy_input__";

/// Something wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issue {
    pub(super) at: usize,
    pub(super) why: String,
}

impl Issue {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Self {
        Self {
            at,
            why: why.into(),
        }
    }

    /// The issue with the line it is on, as the reference shows it.
    pub(super) fn show(&self, text: &str) -> String {
        let at = self.at.min(text.len());
        let before = &text[..floor(text, at)];
        let number = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = text[start..].lines().next().unwrap_or("");
        let column = before[start..].chars().count();
        let dots = ".".repeat(column);
        let why = &self.why;
        format!(
            "ERROR: <input>:{number}:{}: {why}\n | {line}\n | {dots}^",
            column + 1
        )
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A literal value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Arc<[u8]>),
}

/// A part of an expression.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    /// Its number: every node of an expression has one of its own, below the number of nodes.
    pub(super) id: usize,
    depth: usize,
    pub(super) expr: Expr,
}

/// What a comprehension makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comprehension {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// Also `transformList`.
    Map,
    TransformMap,
    /// What is made of each element is a map of entries.
    TransformMapEntry,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Literal(Literal),
    Ident(String),
    /// Target, field, optional.
    Select(Box<Node>, String, bool),
    /// `has(target.field)`
    Has(Box<Node>, String),
    /// Target, index, optional.
    Index(Box<Node>, Box<Node>, bool),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    If(Box<[Node; 3]>),
    /// Function and arguments.
    Call(String, Vec<Node>),
    /// Target, function and arguments.
    Method(Box<Node>, String, Vec<Node>),
    /// Elements; those that are optional are left out when they have no value.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    /// An object of a named type: its fields, those that are optional left out when they have no value.
    Struct(String, Vec<(String, Node, bool)>),
    /// What, range, variables (one, or key and value), condition or body, and what is made of each element.
    Over(
        Comprehension,
        Box<Node>,
        Vec<String>,
        Box<Node>,
        Option<Box<Node>>,
    ),
    /// Variable, its value, body.
    Bind(String, Box<Node>, Box<Node>),
    /// Target, variable, body, whether the body is optional itself: `optMap`, `optFlatMap`.
    OptMap(Box<Node>, String, Box<Node>, bool),
}

impl Node {
    /// Finds the operators whose operands may be of any type.
    pub(super) fn open_operators(&self, types: &Types<'_>, found: &mut BTreeSet<usize>) {
        if let Expr::Binary(operator, left, right) = &self.expr {
            let open = |node: &Self| types.get(&node.id).is_some_and(Type::is_dyn);
            if open(right) && (*operator == "in" || open(left)) {
                found.insert(self.id);
            }
        }
        for child in self.children() {
            child.open_operators(types, found);
        }
    }

    /// Whether it is a name, or something that is found from one: the reference counts such a path as one step and one more
    /// for each part.
    pub(super) fn is_path(&self) -> bool {
        matches!(
            self.expr,
            Expr::Ident(_) | Expr::Select(..) | Expr::Index(..) | Expr::If(_)
        )
    }

    /// Whether the path begins with a choice, whose own step costs nothing.
    pub(super) fn begins_with_choice(&self) -> bool {
        match &self.expr {
            Expr::If(_) => true,
            Expr::Select(target, ..) | Expr::Index(target, ..) => target.begins_with_choice(),
            _ => false,
        }
    }

    /// Whether it is always the same: the reference works such parts out before the expression runs.
    pub(super) fn is_constant(&self) -> bool {
        match &self.expr {
            Expr::Literal(_) => true,
            Expr::Negate(inner) => matches!(inner.expr, Expr::Literal(_)),
            Expr::List(items) => items.iter().all(|(item, opt)| !opt && item.is_constant()),
            Expr::Map(items) => items
                .iter()
                .all(|(key, value, opt)| !opt && key.is_constant() && value.is_constant()),
            Expr::Call(name, args) => {
                let converts = matches!(
                    name.as_str(),
                    "bool"
                        | "bytes"
                        | "double"
                        | "duration"
                        | "int"
                        | "string"
                        | "timestamp"
                        | "uint"
                );
                converts && matches!(&args[..], [one] if one.is_constant())
            }
            _ => false,
        }
    }
}

impl Node {
    fn children(&self) -> Vec<&Node> {
        match &self.expr {
            Expr::Literal(_) | Expr::Ident(_) => Vec::new(),
            Expr::Select(n, ..) | Expr::Has(n, _) | Expr::Not(n) | Expr::Negate(n) => vec![n],
            Expr::Index(a, b, _) | Expr::Binary(_, a, b) | Expr::Bind(_, a, b) => vec![a, b],
            Expr::OptMap(a, _, b, _) => vec![a, b],
            Expr::And(all) | Expr::Or(all) | Expr::Call(_, all) => all.iter().collect(),
            Expr::If(all) => all.iter().collect(),
            Expr::Method(target, _, args) => std::iter::once(&**target).chain(args).collect(),
            Expr::List(items) => items.iter().map(|(n, _)| n).collect(),
            Expr::Map(items) => items.iter().flat_map(|(k, v, _)| [k, v]).collect(),
            Expr::Struct(_, fields) => fields.iter().map(|(_, v, _)| v).collect(),
            Expr::Over(_, range, _, body, made) => {
                let made = made.as_deref();
                [&**range, body].into_iter().chain(made).collect()
            }
        }
    }

    /// `a.b.c`, where the node is nothing else.
    pub(super) fn qualified_name(&self) -> Option<String> {
        match &self.expr {
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select(target, field, false) => {
                Some(format!("{}.{field}", target.qualified_name()?))
            }
            _ => None,
        }
    }

    /// Whether a variable of this name is used.
    pub(super) fn uses(&self, name: &str) -> bool {
        matches!(&self.expr, Expr::Ident(own) if own == name)
            || self.children().into_iter().any(|n| n.uses(name))
    }
}

impl Node {
    /// Whether a field of a variable is selected, in whatever way.
    pub(super) fn selects(&self, variable: &str, field: &str) -> bool {
        let of = |n: &Node| matches!(&n.expr, Expr::Ident(own) if own == variable);
        let here = match &self.expr {
            Expr::Select(target, own, _) | Expr::Has(target, own) => own == field && of(target),
            Expr::Index(target, ..) => of(target),
            _ => false,
        };
        here || self
            .children()
            .into_iter()
            .any(|n| n.selects(variable, field))
    }
}

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Node, Issue> {
    if text.len() > MAX_LENGTH {
        return Err(Issue::new(0, "the expression is too long"));
    }
    let tokens = lex(text)?;
    let mut parser = Parser {
        tokens,
        next: 0,
        depth: 0,
        nodes: 0,
        end: text.len(),
    };
    let node = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(node),
        other => Err(parser.unexpected(&other.clone())),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Ident(String),
    Literal(Literal),
    Op(&'static str),
    End,
}

const OPERATORS: [&str; 29] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}", "=", "&", "|", ";", "@",
];

fn lex(text: &str) -> Result<Vec<(usize, Token)>, Issue> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if let Some((literal, length)) = string(rest).map_err(|why| Issue::new(at, why))? {
            tokens.push((at, Token::Literal(literal)));
            at += length;
        } else if first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            let (literal, length) = number(rest).map_err(|why| Issue::new(at, why))?;
            tokens.push((at, Token::Literal(literal)));
            at += length;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let word = &rest[..end.unwrap_or(rest.len())];
            tokens.push((at, keyword(word)));
            at += word.len();
        } else {
            let operator = OPERATORS.iter().find(|o| rest.starts_with(**o));
            let Some(operator) = operator else {
                let why = format!("Syntax error: token recognition error at: '{first}'");
                return Err(Issue::new(at, why));
            };
            tokens.push((at, Token::Op(operator)));
            at += operator.len();
        }
    }
    Ok(tokens)
}

fn keyword(word: &str) -> Token {
    match word {
        "true" => Token::Literal(Literal::Bool(true)),
        "false" => Token::Literal(Literal::Bool(false)),
        "null" => Token::Literal(Literal::Null),
        "in" => Token::Op("in"),
        word => Token::Ident(word.to_owned()),
    }
}

fn number(text: &str) -> Result<(Literal, usize), String> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let length = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
        let value = u64::from_str_radix(&digits[..length], 16);
        let value = value.map_err(|_| "invalid int literal".to_owned())?;
        if digits[length..].starts_with(['u', 'U']) {
            return Ok((Literal::Uint(value), length + 3));
        }
        let value = i64::try_from(value).map_err(|_| "invalid int literal".to_owned())?;
        return Ok((Literal::Int(value), length + 2));
    }
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(0);
    let mut double = false;
    if text[end..].starts_with('.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
        double = true;
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
            double = true;
        }
    }
    let body = &text[..end];
    if double {
        let value = body
            .parse()
            .map_err(|_| "invalid double literal".to_owned())?;
        return Ok((Literal::Double(value), end));
    }
    if text[end..].starts_with(['u', 'U']) {
        let value = body
            .parse()
            .map_err(|_| "invalid uint literal".to_owned())?;
        return Ok((Literal::Uint(value), end + 1));
    }
    // The smallest integer is a negated literal that does not fit by itself.
    match body.parse::<u64>() {
        Ok(value) if value == i64::MIN.unsigned_abs() => Ok((Literal::Int(i64::MIN), end)),
        Ok(value) => match i64::try_from(value) {
            Ok(value) => Ok((Literal::Int(value), end)),
            Err(_) => Err("invalid int literal".to_owned()),
        },
        Err(_) => Err("invalid int literal".to_owned()),
    }
}

/// A quoted text, raw or not, of bytes or not; none when there is no quotation here.
fn string(text: &str) -> Result<Option<(Literal, usize)>, String> {
    let prefix = text
        .bytes()
        .take_while(|b| matches!(b, b'r' | b'R' | b'b' | b'B'))
        .count();
    let (flags, body) = text.split_at(prefix);
    if prefix > 2 || !body.starts_with(['"', '\'']) {
        return Ok(None);
    }
    let raw = flags.contains(['r', 'R']);
    let bytes = flags.contains(['b', 'B']);
    let quote = &body[..1];
    let triple = quote.repeat(3);
    let fence = if body.starts_with(&triple) {
        &*triple
    } else {
        quote
    };
    let mut out: Vec<u8> = Vec::new();
    let mut rest = &body[fence.len()..];
    loop {
        if let Some(after) = rest.strip_prefix(fence) {
            let length = text.len() - after.len();
            let literal = match bytes {
                true => Literal::Bytes(out.into()),
                false => Literal::String(
                    String::from_utf8(out).map_err(|_| "invalid string literal".to_owned())?,
                ),
            };
            return Ok(Some((literal, length)));
        }
        let Some(c) = rest.chars().next() else {
            return Err("Syntax error: token recognition error at: unterminated string".to_owned());
        };
        if c == '\n' && fence.len() == 1 {
            return Err("Syntax error: token recognition error at: unterminated string".to_owned());
        }
        if c == '\\' && !raw {
            rest = escape(&rest[1..], bytes, &mut out)?;
        } else {
            let mut buffer = [0; 4];
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            rest = &rest[c.len_utf8()..];
        }
    }
}

fn escape<'a>(text: &'a str, bytes: bool, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let bad = || "unable to unescape string".to_owned();
    let c = text.chars().next().ok_or_else(bad)?;
    let simple = match c {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' => Some(b'\\'),
        '\'' => Some(b'\''),
        '"' => Some(b'"'),
        '`' => Some(b'`'),
        '?' => Some(b'?'),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Ok(&text[1..]);
    }
    let (skip, length, radix) = match c {
        'x' | 'X' => (1, 2, 16),
        'u' => (1, 4, 16),
        'U' => (1, 8, 16),
        '0'..='3' => (0, 3, 8),
        _ => return Err(bad()),
    };
    let digits = text.get(skip..skip + length).ok_or_else(bad)?;
    let code = u32::from_str_radix(digits, radix).map_err(|_| bad())?;
    match u8::try_from(code) {
        Ok(byte) if bytes => out.push(byte),
        _ => {
            let c = char::from_u32(code).ok_or_else(bad)?;
            out.extend_from_slice(c.to_string().as_bytes());
        }
    }
    Ok(&text[skip + length..])
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    nodes: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, t)| t)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn eat(&mut self, operator: &str) -> bool {
        let found = matches!(self.peek(), Token::Op(own) if *own == operator);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, operator: &str) -> Result<(), Issue> {
        match self.eat(operator) {
            true => Ok(()),
            false => Err(self.unexpected(&self.peek().clone())),
        }
    }

    fn unexpected(&self, token: &Token) -> Issue {
        let shown = match token {
            Token::End => "<EOF>".to_owned(),
            Token::Op(op) => (*op).to_owned(),
            Token::Ident(word) => word.clone(),
            Token::Literal(literal) => format!("{literal:?}"),
        };
        Issue::new(
            self.at(),
            format!("Syntax error: unexpected input '{shown}'"),
        )
    }

    fn node(&mut self, at: usize, expr: Expr) -> Result<Node, Issue> {
        let id = self.nodes;
        self.nodes += 1;
        let depth = 0;
        let mut node = Node {
            at,
            id,
            depth,
            expr,
        };
        let deepest = node.children().iter().map(|n| n.depth).max();
        node.depth = deepest.map_or(1, |d| d + 1);
        match node.depth > MAX_DEPTH || self.nodes > MAX_NODES {
            true => Err(Issue::new(at, "expression recursion limit exceeded")),
            false => Ok(node),
        }
    }

    fn expr(&mut self) -> Result<Node, Issue> {
        self.depth += 1;
        if self.depth > MAX_DEPTH / 2 {
            return Err(Issue::new(self.at(), "expression recursion limit exceeded"));
        }
        let condition = self.or()?;
        let at = self.at();
        let node = match self.eat("?") {
            false => condition,
            true => {
                let yes = self.or()?;
                self.expect(":")?;
                let no = self.expr()?;
                self.node(at, Expr::If(Box::new([condition, yes, no])))?
            }
        };
        self.depth -= 1;
        Ok(node)
    }

    fn or(&mut self) -> Result<Node, Issue> {
        let at = self.at();
        let mut all = vec![self.and()?];
        while self.eat("||") {
            all.push(self.and()?);
        }
        match all.len() {
            1 => Ok(all.remove(0)),
            _ => self.node(at, Expr::Or(all)),
        }
    }

    fn and(&mut self) -> Result<Node, Issue> {
        let at = self.at();
        let mut all = vec![self.relation()?];
        while self.eat("&&") {
            all.push(self.relation()?);
        }
        match all.len() {
            1 => Ok(all.remove(0)),
            _ => self.node(at, Expr::And(all)),
        }
    }

    fn binary(
        &mut self,
        operators: &[&'static str],
        operand: fn(&mut Self) -> Result<Node, Issue>,
    ) -> Result<Node, Issue> {
        let mut left = operand(self)?;
        loop {
            let at = self.at();
            let Some(operator) = operators.iter().find(|o| self.eat(o)) else {
                return Ok(left);
            };
            let right = operand(self)?;
            left = self.node(at, Expr::Binary(operator, Box::new(left), Box::new(right)))?;
        }
    }

    fn relation(&mut self) -> Result<Node, Issue> {
        self.binary(&["==", "!=", "<=", ">=", "<", ">", "in"], Self::sum)
    }

    fn sum(&mut self) -> Result<Node, Issue> {
        self.binary(&["+", "-"], Self::product)
    }

    fn product(&mut self) -> Result<Node, Issue> {
        self.binary(&["*", "/", "%"], Self::unary)
    }

    fn unary(&mut self) -> Result<Node, Issue> {
        let at = self.at();
        let mut count = 0;
        let operator = if matches!(self.peek(), Token::Op("-")) {
            "-"
        } else {
            "!"
        };
        while self.eat(operator) {
            count += 1;
        }
        let mut node = self.member()?;
        let is_min = matches!(node.expr, Expr::Literal(Literal::Int(i64::MIN)));
        if is_min && !(operator == "-" && count % 2 == 1) {
            return Err(Issue::new(node.at, "invalid int literal"));
        }
        if count % 2 == 0 || is_min {
            return Ok(node);
        }
        if let (Expr::Literal(literal), "-") = (&mut node.expr, operator) {
            match literal {
                Literal::Int(n) => *n = -*n,
                Literal::Double(n) => *n = -*n,
                _ => return Err(Issue::new(at, "found no matching overload for '-_'")),
            }
            return Ok(node);
        }
        let inner = Box::new(node);
        let expr = match operator {
            "!" => Expr::Not(inner),
            _ => Expr::Negate(inner),
        };
        self.node(at, expr)
    }

    fn member(&mut self) -> Result<Node, Issue> {
        let mut node = self.primary()?;
        loop {
            let at = self.at();
            if self.eat(".") {
                let optional = self.eat("?");
                let name = self.ident()?;
                if !optional && self.eat("(") {
                    let args = self.arguments(")")?;
                    node = self.method(at, node, name, args)?;
                } else {
                    node = self.node(at, Expr::Select(Box::new(node), name, optional))?;
                }
            } else if self.eat("[") {
                let optional = self.eat("?");
                let index = self.expr()?;
                self.expect("]")?;
                node = self.node(at, Expr::Index(Box::new(node), Box::new(index), optional))?;
            } else if matches!(self.peek(), Token::Op("{"))
                && let Some(name) = node.qualified_name()
            {
                self.next += 1;
                let fields = self.fields()?;
                node = self.node(at, Expr::Struct(name, fields))?;
            } else {
                return Ok(node);
            }
        }
    }

    /// The fields of an object of a named type, to the brace that ends it.
    fn fields(&mut self) -> Result<Vec<(String, Node, bool)>, Issue> {
        let mut fields = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let name = self.ident()?;
            self.expect(":")?;
            fields.push((name, self.expr()?, optional));
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }

    fn ident(&mut self) -> Result<String, Issue> {
        match self.peek().clone() {
            Token::Ident(name) => {
                self.next += 1;
                Ok(name)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    fn arguments(&mut self, end: &str) -> Result<Vec<Node>, Issue> {
        let mut args = Vec::new();
        while !self.eat(end) {
            args.push(self.expr()?);
            if !self.eat(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(args)
    }

    fn primary(&mut self) -> Result<Node, Issue> {
        let at = self.at();
        match self.peek().clone() {
            Token::Literal(literal) => {
                self.next += 1;
                self.node(at, Expr::Literal(literal))
            }
            Token::Ident(name) => {
                self.next += 1;
                match self.eat("(") {
                    true => {
                        let args = self.arguments(")")?;
                        self.call(at, name, args)
                    }
                    false => self.node(at, Expr::Ident(name)),
                }
            }
            Token::Op("(") => {
                self.next += 1;
                let node = self.expr()?;
                self.expect(")")?;
                Ok(node)
            }
            Token::Op("[") => {
                self.next += 1;
                let mut items = Vec::new();
                while !self.eat("]") {
                    let optional = self.eat("?");
                    items.push((self.expr()?, optional));
                    if !self.eat(",") {
                        self.expect("]")?;
                        break;
                    }
                }
                self.node(at, Expr::List(items))
            }
            Token::Op("{") => {
                self.next += 1;
                let mut items = Vec::new();
                while !self.eat("}") {
                    let optional = self.eat("?");
                    let key = self.expr()?;
                    self.expect(":")?;
                    items.push((key, self.expr()?, optional));
                    if !self.eat(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                self.node(at, Expr::Map(items))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    fn call(&mut self, at: usize, name: String, mut args: Vec<Node>) -> Result<Node, Issue> {
        if name != "has" {
            return self.node(at, Expr::Call(name, args));
        }
        match (args.len(), args.pop().map(|a| a.expr)) {
            (1, Some(Expr::Select(target, field, false))) => {
                self.node(at, Expr::Has(target, field))
            }
            _ => Err(Issue::new(at, "invalid argument to has() macro")),
        }
    }

    /// A method, or one of the macros that look like one.
    fn method(
        &mut self,
        at: usize,
        target: Node,
        name: String,
        args: Vec<Node>,
    ) -> Result<Node, Issue> {
        let is_cel = matches!(&target.expr, Expr::Ident(own) if own == "cel");
        let target = Box::new(target);
        let expr = match (name.as_str(), args.len()) {
            ("bind", 3) if is_cel => {
                let [var, value, body] = three(args);
                Expr::Bind(variable(&var)?, Box::new(value), Box::new(body))
            }
            ("optMap" | "optFlatMap", 2) => {
                let [var, body] = two(args);
                let flat = name == "optFlatMap";
                Expr::OptMap(target, variable(&var)?, Box::new(body), flat)
            }
            ("all" | "exists" | "exists_one" | "existsOne" | "filter", 2 | 3) | ("map", 2) => {
                let (vars, body) = variables(args, 1)?;
                let kind = match name.as_str() {
                    "all" => Comprehension::All,
                    "exists" => Comprehension::Exists,
                    "filter" => Comprehension::Filter,
                    "map" => Comprehension::Map,
                    _ => Comprehension::ExistsOne,
                };
                let [body] = one(body);
                match kind {
                    Comprehension::Map => {
                        let yes = self.node(at, Expr::Literal(Literal::Bool(true)))?;
                        Expr::Over(kind, target, vars, Box::new(yes), Some(Box::new(body)))
                    }
                    kind => Expr::Over(kind, target, vars, Box::new(body), None),
                }
            }
            ("map", 3) => {
                let [var, condition, body] = three(args);
                let vars = vec![variable(&var)?];
                let body = Some(Box::new(body));
                Expr::Over(Comprehension::Map, target, vars, Box::new(condition), body)
            }
            ("sortBy", 2) => {
                let [var, key] = two(args);
                let vars = vec![variable(&var)?];
                let (input, again) = (SORTED.to_owned(), SORTED.to_owned());
                let input = self.node(at, Expr::Ident(input))?;
                let again = self.node(at, Expr::Ident(again))?;
                let yes = self.node(at, Expr::Literal(Literal::Bool(true)))?;
                let (yes, key) = (Box::new(yes), Some(Box::new(key)));
                let keys = Expr::Over(Comprehension::Map, Box::new(again), vars, yes, key);
                let keys = vec![self.node(at, keys)?];
                let call = Expr::Method(Box::new(input), "@sortByAssociatedKeys".to_owned(), keys);
                let call = self.node(at, call)?;
                Expr::Bind(SORTED.to_owned(), target, Box::new(call))
            }
            ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => {
                let kind = match name.as_str() {
                    "transformMap" => Comprehension::TransformMap,
                    "transformMapEntry" => Comprehension::TransformMapEntry,
                    _ => Comprehension::Map,
                };
                let filtered = args.len() == 4;
                let (vars, mut rest) = variables(args, if filtered { 2 } else { 1 })?;
                let body = rest.pop().unwrap_or_else(|| (*target).clone());
                let condition = match rest.pop() {
                    Some(condition) => condition,
                    None => self.node(at, Expr::Literal(Literal::Bool(true)))?,
                };
                Expr::Over(
                    kind,
                    target,
                    vars,
                    Box::new(condition),
                    Some(Box::new(body)),
                )
            }
            _ => Expr::Method(target, name, args),
        };
        self.node(at, expr)
    }
}

fn variable(node: &Node) -> Result<String, Issue> {
    match &node.expr {
        Expr::Ident(name) => Ok(name.clone()),
        _ => Err(Issue::new(node.at, "argument must be a simple name")),
    }
}

/// The names of variables before the last `bodies` arguments.
fn variables(mut args: Vec<Node>, bodies: usize) -> Result<(Vec<String>, Vec<Node>), Issue> {
    let rest = args.split_off(args.len().saturating_sub(bodies));
    let names: Result<Vec<String>, Issue> = args.iter().map(variable).collect();
    Ok((names?, rest))
}

fn one(args: Vec<Node>) -> [Node; 1] {
    args.try_into()
        .expect("the number of arguments was looked at")
}

fn two(args: Vec<Node>) -> [Node; 2] {
    args.try_into()
        .expect("the number of arguments was looked at")
}

fn three(args: Vec<Node>) -> [Node; 3] {
    args.try_into()
        .expect("the number of arguments was looked at")
}
