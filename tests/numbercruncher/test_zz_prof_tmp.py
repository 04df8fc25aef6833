import time, cProfile, pstats
from embedded import s3
from numbercruncher.crunch import crunch
from numbercruncher.store import Store
from numbercruncher.request import parse_request
from tests.numbercruncher.listings import *
def test_prof(services, environment, bucket):
    c=s3.client(services.env)
    ds=days("2025-01-01",365); m=market(ds[:14],2000)
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(8) as p: list(p.map(lambda i: put_snapshot(c,bucket,ds[i],m[ds[i%14]]), range(365)))
    def go(dates,v):
        got=[]
        t=time.time(); cpu=time.process_time()
        crunch(Store(bucket),parse_request({"bucket":bucket,"dates":dates,"code_version":v}),got.append)
        print(len(dates),v, f"wall {time.time()-t:.2f} cpu {time.process_time()-cpu:.2f}", {g["status"] for g in got})
    go(ds[:1],"a"); go(ds,"a"); go(ds,"a"); go(ds,"b")
    go(ds[364:],"c")
    go(ds,"b")
    for d in (1,364,2,363):
        for pre in ("price_changes","neighbourhood_summary"):
            c.delete_object(Bucket=bucket,Key=f"airbnb/{pre}/date={ds[d]}/manifest.json")
        go([ds[d]],"b")
