//! From text to a tree. Depth and size are bounded, so that nothing that walks the tree has to be.

mod mistakes;

use super::lex::{Token, Tokens, lex};
use super::tree::{Comprehension, Expr, Issue, Literal, Node};

const MAX_DEPTH: usize = 120;
const MAX_NODES: usize = 20_000;
const MAX_LENGTH: usize = 64 * 1024;

/// The variable that holds a list while it is sorted.
const SORTED: &str = "@__sortBy_input__";

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Issue>> {
    if text.len() > MAX_LENGTH {
        return Err(vec![Issue::new(0, "the expression is too long")]);
    }
    let (tokens, mut issues) = lex(text).map_err(|issue| vec![issue])?;
    match whole(text, tokens) {
        Ok(node) if issues.is_empty() => Ok(node),
        read => {
            issues.extend(read.err());
            Err(issues)
        }
    }
}

fn whole(text: &str, tokens: Tokens) -> Result<Node, Issue> {
    let mut parser = Parser {
        text,
        tokens,
        next: 0,
        depth: 0,
        nodes: 0,
        end: text.len(),
    };
    let node = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.wants(&["<EOF>"])),
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Tokens,
    next: usize,
    depth: usize,
    nodes: usize,
    end: usize,
}

impl Parser<'_> {
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
            false => Err(self.wants(&[operator])),
        }
    }

    /// The end of a list or a map, where another element could follow.
    fn expect_end(&mut self, operator: &str) -> Result<(), Issue> {
        match self.eat(operator) {
            true => Ok(()),
            false => Err(self.wants(&[operator, ","])),
        }
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
                self.expect_end("}")?;
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
            _ => Err(self.no_name()),
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
                        self.expect_end("]")?;
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
                        self.expect_end("}")?;
                        break;
                    }
                }
                self.node(at, Expr::Map(items))
            }
            _ => Err(self.wants_expression()),
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
