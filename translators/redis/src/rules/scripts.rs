//! Scripts for forms that have no plain older equivalent.
//!
//! Each is atomic, declares its keys, holds no temporary key and gives the same data whenever it runs
//! between the same two commands. They run on 5.0, 6.0 and 6.2 replicas unless said otherwise.

/// Absolute expiry of KEYS[1] in ms as `e`, or -1: 5.0 to 6.2 tell only the time left, so the clock is
/// read on both sides of it until all three fall into one millisecond.
macro_rules! expiry {
    () => {
        "redis.replicate_commands() \
         local function now() local t=redis.call('TIME') return t[1]*1000+math.floor(t[2]/1000) end \
         local a,e repeat a=now() e=redis.call('PTTL',KEYS[1]) until now()==a \
         if e>=0 then e=string.format('%.0f',a+e) else e=-1 end "
    };
}

/// KEYS: key. ARGV: value.
pub const SET_KEEPTTL: &str = concat!(
    expiry!(),
    "redis.call('SET',KEYS[1],ARGV[1]) if e~=-1 then redis.call('PEXPIREAT',KEYS[1],e) end"
);

/// KEYS: source, destination. ARGV: database of the destination, or empty.
pub const COPY: &str = concat!(
    expiry!(),
    "local v=redis.call('DUMP',KEYS[1]) if v then \
     if ARGV[1]~='' then redis.call('SELECT',ARGV[1]) end \
     if e==-1 then e=0 end redis.call('RESTORE',KEYS[2],e,v,'REPLACE','ABSTTL') end"
);

/// KEYS: source, destination, which may be one. ARGV: index of the element, the command that pushes, the
/// command that pops. Pushed before it is popped: a list must not become empty in between, for its expiry
/// would go with it.
pub const LMOVE: &str = "local v=redis.call('LINDEX',KEYS[1],ARGV[1]) \
     if v then redis.call(ARGV[2],KEYS[2],v) redis.call(ARGV[3],KEYS[1]) end";

/// KEYS: key. ARGV: GT or LT, `1` for INCR, `1` for XX, then score, member, …
pub const ZADD_GT_LT: &str = "for i=4,#ARGV,2 do local n,m=ARGV[i],ARGV[i+1] \
     local s=redis.call('ZSCORE',KEYS[1],m) \
     if s and ARGV[2]=='1' then n=string.format('%.17g',tonumber(s)+tonumber(n)) end \
     local a,b=tonumber(n),s and tonumber(s) \
     if (not s and ARGV[3]~='1') or (s and ((ARGV[1]=='GT' and a>b) or (ARGV[1]=='LT' and a<b))) \
     then redis.call('ZADD',KEYS[1],n,m) end end";

/// KEYS: destination, first source, other sources. A source may be a set, or the destination itself:
/// so the others are read before anything is written.
pub const ZDIFFSTORE: &str = "local gone={} for i=3,#KEYS do \
     local t=redis.call('TYPE',KEYS[i]).ok \
     local m=t=='set' and redis.call('SMEMBERS',KEYS[i]) or redis.call('ZRANGE',KEYS[i],0,-1) \
     for _,x in ipairs(m) do gone[#gone+1]=x end end \
     redis.call('ZUNIONSTORE',KEYS[1],1,KEYS[2]) \
     for _,x in ipairs(gone) do redis.call('ZREM',KEYS[1],x) end";

/// KEYS: destination, source. ARGV: the range command, its two bounds, its options.
pub const ZRANGESTORE: &str = "local r=redis.call(ARGV[1],KEYS[2],ARGV[2],ARGV[3],unpack(ARGV,4)) \
     local s={} for i,m in ipairs(r) do s[i]=redis.call('ZSCORE',KEYS[2],m) end \
     redis.call('DEL',KEYS[1]) for i,m in ipairs(r) do redis.call('ZADD',KEYS[1],s[i],m) end";

/// KEYS: stream. ARGV: the last id to remove.
pub const XTRIM_UP_TO: &str = "local n=#redis.call('XRANGE',KEYS[1],'-',ARGV[1]) \
     if n>0 then redis.call('XTRIM',KEYS[1],'MAXLEN',redis.call('XLEN',KEYS[1])-n) end";

/// KEYS: stream. ARGV: XCLAIM's arguments from the group on; the fourth is the id. From 7.0 on, XCLAIM
/// of an entry that was deleted removes it from the pending list; before, it claims it all the same.
pub const XCLAIM: &str = "if #redis.call('XRANGE',KEYS[1],ARGV[4],ARGV[4])==0 \
     then redis.call('XACK',KEYS[1],ARGV[1],ARGV[4]) \
     else redis.call('XCLAIM',KEYS[1],unpack(ARGV)) end";

/// For 7.4. KEYS: hash. ARGV: field, value, … Puts back the times that HSET takes away.
pub const HSET_KEEPTTL: &str = "for i=1,#ARGV,2 do \
     local t=redis.call('HPEXPIRETIME',KEYS[1],'FIELDS',1,ARGV[i]) \
     redis.call('HSET',KEYS[1],ARGV[i],ARGV[i+1]) \
     if type(t)=='table' and t[1] and t[1]>0 \
     then redis.call('HPEXPIREAT',KEYS[1],string.format('%.0f',t[1]),'FIELDS',1,ARGV[i]) end end";
