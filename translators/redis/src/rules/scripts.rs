//! Scripts for forms that have no plain older equivalent.
//!
//! Each is atomic, declares its keys, holds no temporary key and gives the same data whenever it runs
//! between the same two commands. They run on replicas of every release from 5.0 on, unless said otherwise.
//!
//! In a cluster, a script's keys are the keys of the one command that it stands for: a master only took
//! that command because they lie in one slot.

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

/// KEYS: key, new key. ARGV: RENAME or RENAMENX. What was renamed to a key on the master is not there any more.
pub const RENAME: &str = "if redis.call('EXISTS',KEYS[1])==1 then redis.call(ARGV[1],KEYS[1],KEYS[2]) \
     elseif ARGV[1]:upper()=='RENAME' then redis.call('DEL',KEYS[2]) end";

/// KEYS: source, destination, which may be one. ARGV: index of the element, the command that pushes, the
/// command that pops. Pushed before it is popped: a list must not become empty in between, for its expiry
/// would go with it.
pub const LMOVE: &str = "local v=redis.call('LINDEX',KEYS[1],ARGV[1]) \
     if v then redis.call(ARGV[2],KEYS[2],v) redis.call(ARGV[3],KEYS[1]) end";

/// KEYS: source, destination, which may be one. ARGV: the ends, how many, `REVERSED` or `KEPT`. Pushed before
/// they are trimmed, for the same reason; within one end of one list, they change places.
pub const LMOVEM: &str = "local s,d,n,left=KEYS[1],KEYS[2],tonumber(ARGV[3]),ARGV[1]=='LEFT' \
     local v=left and redis.call('LRANGE',s,0,n-1) or redis.call('LRANGE',s,-n,-1) n=#v \
     if ARGV[4]=='REVERSED' then for i=1,math.floor(n/2) do v[i],v[n+1-i]=v[n+1-i],v[i] end end \
     if s==d and ARGV[1]==ARGV[2] then local f=left and 0 or -n \
     for i=1,n do redis.call('LSET',s,f+i-1,v[i]) end return end \
     if ARGV[2]=='LEFT' then for i=n,1,-1 do redis.call('LPUSH',d,v[i]) end \
     else for i=1,n do redis.call('RPUSH',d,v[i]) end end \
     if left then redis.call('LTRIM',s,n,-1) else redis.call('LTRIM',s,0,-n-1) end";

/// KEYS: destination, sources. ARGV: the operation of BITOP.
pub const BITOP: &str = "local s,n={},0 \
     for i=2,#KEYS do local v=redis.call('GET',KEYS[i]) or '' s[#s+1]=v n=math.max(n,#v) end \
     local o,out=ARGV[1],{} for p=1,n,4096 do local part={} \
     for c=p,math.min(p+4095,n) do local x=s[1]:byte(c) or 0 local y,r=0 \
     if o=='ONE' then local more=0 y=x \
     for i=2,#s do local z=s[i]:byte(c) or 0 more=bit.bor(more,bit.band(y,z)) y=bit.bor(y,z) end \
     r=bit.band(y,bit.bnot(more)) \
     else for i=2,#s do y=bit.bor(y,s[i]:byte(c) or 0) end \
     if o=='DIFF' then r=bit.band(x,bit.bnot(y)) elseif o=='DIFF1' then r=bit.band(y,bit.bnot(x)) \
     else r=bit.band(x,y) end end \
     part[#part+1]=string.char(r) end out[#out+1]=table.concat(part) end \
     if n==0 then redis.call('DEL',KEYS[1]) else redis.call('SET',KEYS[1],table.concat(out)) end";

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

/// KEYS: destination, sources, sets among them. ARGV: the command, a weight for each source.
pub const AGGREGATE_COUNT: &str = "local sum,times,order={},{},{} for i=2,#KEYS do \
     local m=redis.call('TYPE',KEYS[i]).ok=='set' and redis.call('SMEMBERS',KEYS[i]) \
     or redis.call('ZRANGE',KEYS[i],0,-1) \
     for _,x in ipairs(m) do if not sum[x] then sum[x]=0 times[x]=0 order[#order+1]=x end \
     sum[x]=sum[x]+tonumber(ARGV[i]) times[x]=times[x]+1 end end \
     redis.call('DEL',KEYS[1]) for _,x in ipairs(order) do \
     if ARGV[1]=='ZUNIONSTORE' or times[x]==#KEYS-1 \
     then redis.call('ZADD',KEYS[1],string.format('%.17g',sum[x]),x) end end";

/// What refers to entries of a stream: `earlier` compares ids, `forget` takes one out of every group's
/// pending list, `held` is whether a group has yet to read or to acknowledge it.
macro_rules! references {
    () => {
        "local k=KEYS[1] local groups=redis.call('XINFO','GROUPS',k) \
         local function less(a,b) return #a<#b or (#a==#b and a<b) end \
         local function earlier(a,b) local am,as=a:match('^(%d+)-?(%d*)') local bm,bs=b:match('^(%d+)-?(%d*)') \
         if am==bm then return less(as,bs) end return less(am,bm) end \
         local function forget(id) for _,g in ipairs(groups) do redis.call('XACK',k,g[2],id) end end \
         local function held(id) for _,g in ipairs(groups) do \
         if earlier(g[8],id) or #redis.call('XPENDING',k,g[2],id,id,1)>0 then return true end end end "
    };
}

/// KEYS: stream. ARGV: DELREF or ACKED, ids.
pub const XDELEX: &str = concat!(
    references!(),
    "for i=2,#ARGV do local id=ARGV[i] if ARGV[1]=='DELREF' then forget(id) end \
     if ARGV[1]=='DELREF' or not held(id) then redis.call('XDEL',k,id) end end"
);

/// KEYS: stream. ARGV: KEEPREF, DELREF or ACKED, group, ids. Only what is pending in the group is deleted.
pub const XACKDEL: &str = concat!(
    references!(),
    "for i=3,#ARGV do local id=ARGV[i] if redis.call('XACK',k,ARGV[2],id)==1 then \
     if ARGV[1]=='DELREF' then forget(id) end \
     if ARGV[1]~='ACKED' or not held(id) then redis.call('XDEL',k,id) end end end"
);

/// KEYS: stream. ARGV: MAXLEN or MINID, the threshold, DELREF or ACKED. What is held is passed over.
pub const TRIM_REFERENCES: &str = concat!(
    references!(),
    "local n=ARGV[1]=='MAXLEN' and redis.call('XLEN',k)-tonumber(ARGV[2]) local from='-' \
     while true do local page,last=redis.call('XRANGE',k,from,'+','COUNT',100),nil \
     for _,e in ipairs(page) do local id=e[1] \
     if (n and n<=0) or (not n and not earlier(id,ARGV[2])) then return end \
     if id~=from then last=id if ARGV[3]=='DELREF' then forget(id) end \
     if ARGV[3]=='DELREF' or not held(id) then redis.call('XDEL',k,id) n=n and n-1 end end end \
     if not last then return end from=last end"
);

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
