{let i=document,{src,dataset:n}=i.currentScript,c=navigator,o=location,d=o.pathname,l
let h=e=>new URL(e,src)
let a=p=>setTimeout(e=>{
let r=i.querySelector("[data-visits],[data-visits-total]")
e=o.pathname
try{e=decodeURIComponent(e=new URL((e==d&&i.querySelector("[rel=canonical]")||o).href).pathname)}catch{}
if(p.persisted&&"bfcache"in n)l=0
e=n.page||e
if(e!=l&&!i.hidden){
l=e
e=encodeURIComponent(e)
let t=h((n.path||"visit")+"/"+e)
if(r||!c.sendBeacon?.(t))self.fetch?fetch(t,{method:"POST",keepalive:1}).catch(e=>e).then(e=>r&&import(h("show.1.js")).then(e=>e.show(l),e=>e)):new Image().src=h("pixel/"+e+".gif")}})
if(!c.webdriver&&(self==top|"frames"in n)&&!("respect"in n&&c.doNotTrack>0|c.globalPrivacyControl)){
a(n)
for(let e of["visibilitychange","popstate","pageshow"])addEventListener(e,a)
for(let e of["pushState","replaceState"]){let t=history[e];history[e]=(...r)=>{t.apply(history,r);a(n)}}
self.navigation?.addEventListener("currententrychange",a)}}
