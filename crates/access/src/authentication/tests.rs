//! Configurations in, complaints out; claims in, users out.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{Anonymous, Configuration};

fn check(jwt: &str, expected: Expect) {
    let text =
        format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{jwt}");
    let own = ["https://own".to_owned()];
    let said = match Configuration::parse(&text, &own) {
        Ok(_) => "good".to_owned(),
        Err(error) => error.replace(", jwt", ",\njwt"),
    };
    expected.assert_eq(&said);
}

#[test]
fn a_configuration_is_checked_field_by_field() {
    check(
        "jwt: [{issuer: {url: 'https://a', audiences: [x]}, claimMappings: {username: {claim: sub, prefix: ''}}}]",
        expect!["good"],
    );
    check(
        "jwt: [{}]",
        expect![[r#"
        [jwt[0].issuer.url: Required value,
        jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required,
        jwt[0].claimMappings.username: Required value: claim or expression is required]"#]],
    );
    check(
        "jwt: [{issuer: {url: 'https://a', uri: b}}]",
        expect![
            "strict decoding error: unknown field `uri`, expected one of `url`, `discoveryURL`, `certificateAuthority`, `audiences`, `audienceMatchPolicy`, `egressSelectorType`"
        ],
    );
    check(
        "jwt: [{issuer: {url: 'http://u:p@a?q#f', discoveryURL: 'http://u:p@a?q#f', audiences: [x, x, ''],
          certificateAuthority: none}, claimMappings: {username: {claim: a, expression: b}, groups: {claim: g},
          uid: {claim: a, expression: b}, extra: [{key: plain}, {key: a.k8s.io/B, valueExpression: '1 +'}]},
          claimValidationRules: [{claim: a, message: m}, {expression: 'claims.x', requiredValue: v}, {}],
          userValidationRules: [{expression: ''}, {expression: 'user.nobody == 1'}, {expression: 'true'}, {expression: 'true'}]},
          {issuer: {url: 'https://own', audiences: [a], audienceMatchPolicy: All}, claimMappings: {username: {expression: claims.email}}}]",
        expect![[r#"
            [jwt[0].issuer.url: Invalid value: "http://u:p@a?q#f": URL scheme must be https,
            jwt[0].issuer.url: Invalid value: "http://u:p@a?q#f": URL must not contain a username or password,
            jwt[0].issuer.url: Invalid value: "http://u:p@a?q#f": URL must not contain a query,
            jwt[0].issuer.url: Invalid value: "http://u:p@a?q#f": URL must not contain a fragment,
            jwt[0].issuer.discoveryURL: Invalid value: "http://u:p@a?q#f": discoveryURL must be different from URL,
            jwt[0].issuer.discoveryURL: Invalid value: "http://u:p@a?q#f": URL scheme must be https,
            jwt[0].issuer.discoveryURL: Invalid value: "http://u:p@a?q#f": URL must not contain a username or password,
            jwt[0].issuer.discoveryURL: Invalid value: "http://u:p@a?q#f": URL must not contain a query,
            jwt[0].issuer.discoveryURL: Invalid value: "http://u:p@a?q#f": URL must not contain a fragment,
            jwt[0].issuer.audiences[1]: Duplicate value: "x",
            jwt[0].issuer.audiences[2]: Required value,
            jwt[0].issuer.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences,
            jwt[0].issuer.certificateAuthority: Invalid value: "<omitted>": data does not contain any valid RSA or ECDSA certificates,
            jwt[0].claimValidationRules[0].message: Invalid value: "m": may not be specified when claim is set,
            jwt[0].claimValidationRules[1].requiredValue: Invalid value: "v": may not be specified when expression is set,
            jwt[0].claimValidationRules[1].expression: Invalid value: "claims.x": must evaluate to bool,
            jwt[0].claimValidationRules[2]: Required value: claim or expression is required,
            jwt[0].claimMappings.username: Invalid value: "": claim and expression can't both be set,
            jwt[0].claimMappings.groups.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing,
            jwt[0].claimMappings.uid: Invalid value: "": claim and expression can't both be set,
            jwt[0].claimMappings.extra[0].key: Invalid value: "plain": must be a domain-prefixed path (such as "acme.io/foo"),
            jwt[0].claimMappings.extra[0].valueExpression: Required value,
            jwt[0].claimMappings.extra[1].key: Invalid value: "a.k8s.io/B": must be lowercase,
            jwt[0].claimMappings.extra[1].key: Invalid value: "a.k8s.io/B": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use,
            jwt[0].claimMappings.extra[1].valueExpression: Invalid value: "1 +": compilation failed: ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
             | 1 +
             | ...^,
            jwt[0].userValidationRules[0].expression: Required value,
            jwt[0].userValidationRules[1].expression: Invalid value: "user.nobody == 1": compilation failed: ERROR: <input>:1:5: undefined field 'nobody'
             | user.nobody == 1
             | ....^,
            jwt[0].userValidationRules[3].expression: Duplicate value: "true",
            jwt[1].issuer.url: Invalid value: "https://own": URL must not overlap with disallowed issuers: [https://own],
            jwt[1].issuer.audienceMatchPolicy: Invalid value: "All": audienceMatchPolicy must be empty or MatchAny for single audience,
            jwt[1].claimMappings.username.expression: Invalid value: "claims.email": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression]"#]],
    );
    check(
        "anonymous: {enabled: false, conditions: [{path: /x}]}",
        expect![[
            r#"anonymous.conditions: Invalid value: ["/x"]: enabled should be set to true when conditions are defined"#
        ]],
    );
}

#[test]
fn nobody_may_ask_for_the_paths_that_are_named() {
    let of = |enabled, paths: &[&str]| Anonymous {
        enabled,
        paths: paths.iter().map(|p| (*p).to_owned()).collect(),
    };
    assert!(of(true, &[]).allows("/api") && of(true, &["/livez"]).allows("/livez"));
    assert!(!of(true, &["/livez"]).allows("/livez/ping") && !of(false, &[]).allows("/livez"));
}

fn user(mappings: &str, claims: Value) -> String {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
         jwt: [{{issuer: {{url: 'https://a', audiences: [x]}}, {mappings}}}]"
    );
    let configuration = Configuration::parse(&text, &[]).expect("good");
    let claims = claims.as_object().expect("claims").clone();
    match configuration.jwt[0].user_of(&claims) {
        Ok(user) => format!(
            "{} {:?} {:?} {:?}",
            user.name, user.uid, user.groups, user.extra
        ),
        Err(error) => error,
    }
}

#[test]
fn claims_make_a_user() {
    let plain = "claimMappings: {username: {claim: sub, prefix: 'o:'}, groups: {claim: roles, prefix: 'g:'}, uid: {claim: id}}";
    let claims = json!({"sub": "jane", "roles": ["a", "b"], "id": "7", "jti": "j"});
    expect![[
        r#"o:jane "7" ["g:a", "g:b"] {"authentication.kubernetes.io/credential-id": ["JTI=j"]}"#
    ]]
    .assert_eq(&user(plain, claims));
    expect![[r#"o:jane "7" ["g:one"] {}"#]].assert_eq(&user(
        plain,
        json!({"sub": "jane", "roles": "one", "id": "7"}),
    ));
    expect![[r#"oidc: parse username claims "sub": claim not present"#]]
        .assert_eq(&user(plain, json!({"roles": "one", "id": "7"})));
    let mail = "claimMappings: {username: {claim: email, prefix: ''}}";
    expect!["oidc: email not verified"].assert_eq(&user(
        mail,
        json!({"email": "a@b", "email_verified": false}),
    ));
    let expressions = "claimMappings: {username: {expression: \"'x:' + claims.sub\"}, groups: {expression: 'claims.roles.split(\",\")'},
        extra: [{key: acme.io/team, valueExpression: claims.team}]},
        claimValidationRules: [{claim: hd, requiredValue: acme}, {expression: 'claims.level > 2', message: too low}],
        userValidationRules: [{expression: \"!user.username.startsWith('x:system')\", message: 'reserved'}]";
    let claims = |sub: &str, level: i64, hd: &str| json!({"sub": sub, "roles": "a,b", "team": ["t", ""], "level": level, "hd": hd});
    expect![[r#"x:jane "" ["a", "b"] {"acme.io/team": ["t"]}"#]]
        .assert_eq(&user(expressions, claims("jane", 3, "acme")));
    expect!["oidc: error evaluating claim validation expression: validation expression 'claims.level > 2' failed: too low"].assert_eq(&user(expressions, claims("jane", 2, "acme")));
    expect!["oidc: required claim hd value does not match. Got = other, want = acme"]
        .assert_eq(&user(expressions, claims("jane", 3, "other")));
    expect!["oidc: error evaluating user info validation rule: validation expression '!user.username.startsWith('x:system')' failed: reserved"].assert_eq(&user(expressions, claims("system:x", 3, "acme")));
}

#[test]
fn tokens_of_keys_over_p_521_are_verified() {
    use crate::authentication::{Issuer, Jwt, read_keys};
    use crate::tokens::{Claims, SigningKey, Tokens};
    let key = SigningKey::from_pem(include_str!("../tokens/testdata/p521.key")).expect("a key");
    let tokens = Tokens::new("https://a", Vec::new(), key, Vec::new());
    let claims = json!({"iss": "", "sub": "jane", "aud": ["me"], "exp": 2_000_000_000});
    let claims: Claims = serde_json::from_value(claims).expect("claims");
    let token = tokens.sign(claims).expect("a token");
    let keys = read_keys(tokens.jwks().to_string().as_bytes()).expect("keys");
    let now = "2026-11-22T00:00:00Z".parse().expect("a time");
    let text = String::new;
    let mut issuer = Issuer::plain("https://a".to_owned(), "me".to_owned(), text(), text());
    let check = |issuer: &Issuer, token: &str| {
        let token = Jwt::parse(token).expect("a token");
        issuer.verify(&token, &keys, now)
    };
    assert_eq!(
        check(&issuer, &token).expect_err("not wanted"),
        "oidc: id token signed with unsupported algorithm, expected [\"RS256\"] got \"ES512\""
    );
    issuer.algorithms = vec!["ES512".to_owned()];
    assert_eq!(check(&issuer, &token), Ok(()));
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let forged = format!("{signed}.{}", signature.replace(&signature[..4], "AAAA"));
    assert!(check(&issuer, &forged).is_err());
}
