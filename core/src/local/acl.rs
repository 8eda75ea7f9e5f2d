//! ACL: who the client is, random passwords, and the categories of the commands the proxy offers.

use super::{Call, parse_integer, write_not_yet};
use crate::command::{Categories, Class, Spec, TABLE, id};
use crate::resp::write;

/// Bits of a password if the client names none, and the most it may name.
const DEFAULT_BITS: i64 = 256;
const MAX_BITS: i64 = 4096;

pub(super) fn acl(spec: &Spec, call: &mut Call<'_>) {
    match spec.id {
        id::ACL_WHOAMI => write::bulk(call.out, call.client.user()),
        id::ACL_GENPASS => gen_pass(call),
        id::ACL_CAT => cat(call),
        _ => write_not_yet(spec, call.out),
    }
}

/// A hex digit for every four bits, rounded up, as the servers do.
fn gen_pass(call: &mut Call<'_>) {
    if call.args.len() > 3 {
        return too_many_arguments(call);
    }
    let bits = match call.args.get(2) {
        None => Some(DEFAULT_BITS),
        Some(word) => parse_integer(word),
    };
    let Some(bits) = bits else {
        return call.error("ERR value is not an integer or out of range");
    };
    let digits = match usize::try_from(bits) {
        Ok(1..) if bits <= MAX_BITS => {
            usize::try_from(bits.saturating_add(3) / 4).unwrap_or_default()
        }
        _ => {
            return call.error(
                "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
            );
        }
    };
    let mut random = vec![0; digits.div_ceil(2)];
    if !call.env.fill_random(&mut random) {
        return call.error("ERR proxy: no source of random numbers");
    }
    let mut password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    password.truncate(digits);
    write::bulk(call.out, password.as_bytes());
}

/// The categories, or the commands of one that the proxy does not refuse.
fn cat(call: &mut Call<'_>) {
    match call.args.len() {
        0..=2 => {
            write::array(call.out, Categories::NAMES.len());
            for name in Categories::NAMES {
                write::bulk(call.out, name.as_bytes());
            }
        }
        3 => {
            let Some(category) = Categories::named(call.arg(2)) else {
                return call.error_about("ERR Unknown category '", call.arg(2), "'");
            };
            let offered = |spec: &&Spec| {
                spec.class != Class::Forbidden
                    && spec.subcommands == 0
                    && spec.categories.contains(category)
            };
            write::array(call.out, TABLE.iter().filter(offered).count());
            for spec in TABLE.iter().filter(offered) {
                write::bulk(call.out, spec.name.as_bytes());
            }
        }
        _ => too_many_arguments(call),
    }
}

/// The arity of CAT and GENPASS is open; the servers check its upper bound in the command itself.
fn too_many_arguments(call: &mut Call<'_>) {
    call.error_about(
        "ERR unknown subcommand or wrong number of arguments for '",
        call.arg(1),
        "'. Try ACL HELP.",
    );
}
